"""A person at the city's console: signs in, opens a district's camera, sees it move, turns it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

ROWS = "document.querySelectorAll('[data-test=devices] li').length === {}"


def _time(page: Page) -> float:
    return float(page.evaluate("document.querySelector('video').currentTime"))


def _pixels(page: Page) -> list[int]:
    """The picture as it is shown now, small."""
    found: list[int] = page.evaluate(
        """() => {
            const video = document.querySelector('video'), canvas = document.createElement('canvas')
            canvas.width = 64; canvas.height = 36
            const pen = canvas.getContext('2d')
            pen.drawImage(video, 0, 0, 64, 36)
            return Array.from(pen.getImageData(0, 0, 64, 36).data)
        }"""
    )
    return found


def _open(page: Page, device: str) -> None:
    page.click(f"[data-device='{device}']")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)


def test_a_wrong_password_is_refused_in_words(demo: dict[str, str], page: Page) -> None:
    context = page.context.browser
    assert context is not None
    other = context.new_page(locale="zh-CN")
    other.goto(demo["url"])
    other.fill("input[name=user]", demo["user"])
    other.fill("input[name=password]", "Wrong-123")
    other.click("[data-test=submit]")
    assert "口令" in other.inner_text("[data-test=problem]")
    other.close()


def test_a_district_camera_plays_and_its_pixels_change(
    demo: dict[str, str], page: Page, until: Callable[..., None], pictures: Path
) -> None:
    _open(page, demo["device"])
    first_time, first = _time(page), _pixels(page)
    until(page, f"document.querySelector('video').currentTime > {first_time} + 2")
    later = _pixels(page)
    changed = sum(abs(a - b) > 8 for a, b in zip(first, later, strict=True))
    assert changed > 100, f"only {changed} of {len(first)} samples changed"
    assert len(set(first)) > 20, "the picture is one colour"
    page.screenshot(path=pictures / "console.png")


def test_every_step_shows_its_time(page: Page) -> None:
    steps: dict[str, str] = {
        row.get_attribute("data-step") or "": row.inner_text()
        for row in page.query_selector_all("[data-test=timing] li")
    }
    for step in ("requested", "answered", "firstPacket", "firstKeyFrame", "firstPicture"):
        assert "ms" in steps[step], steps


def test_the_figures_of_the_session_stand_beside_the_picture(page: Page, until: Callable[..., None]) -> None:
    until(page, "document.querySelector('[data-figure=bitrateKbps]')?.innerText.includes('bit/s')")
    assert "%" in page.inner_text("[data-figure=lossRate]")


def test_holding_an_arrow_turns_the_camera(page: Page) -> None:
    before = _pixels(page)
    button = page.locator("[data-ptz=right]")
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.wait_for_selector("[data-test=ptz-delay]", timeout=5_000)
    page.wait_for_timeout(1_200)
    page.mouse.up()
    page.wait_for_timeout(800)
    changed = sum(abs(a - b) > 8 for a, b in zip(before, _pixels(page), strict=True))
    assert changed > 500, changed
    assert page.query_selector("[data-test=ptz-problem]") is None


def test_search_narrows_the_list_and_says_when_nothing_is_there(
    page: Page, until: Callable[..., None]
) -> None:
    page.fill("[data-test=search]", "滴水湖")
    until(page, ROWS.format(1))
    page.fill("[data-test=search]", "没有这样的设备")
    until(page, ROWS.format(0))
    assert "没有可见的设备" in page.inner_text("aside")
    page.fill("[data-test=search]", "")
    until(page, ROWS.format(12))


def test_a_codec_the_browser_lacks_is_coded_anew_and_said(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    playable = "MediaSource.isTypeSupported('video/mp4; codecs=\"hvc1.1.6.L93.B0\"')"
    if page.evaluate(playable):
        pytest.skip("this Chromium decodes H.265")
    page.click("[data-device='31010100001320000004']")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    first = page.evaluate("document.querySelector('video').currentTime")
    until(page, f"document.querySelector('video').currentTime > {first} + 2")
    assert page.evaluate("document.querySelector('video').videoWidth") == 640
    assert "由 H265 转码" in page.inner_text(".session")
    page.screenshot(path=pictures / "h265.png")


def test_an_address_of_no_camera_leaves_no_picture_of_another(page: Page) -> None:
    page.evaluate("location.hash = '#/?device=31010100001320009999'")
    page.wait_for_selector("[data-test=problem]")
    assert page.locator("video").count() == 0


def test_a_viewing_stands_in_the_audit(page: Page, demo: dict[str, str], pictures: Path) -> None:
    page.evaluate("location.hash = '#/audit?event=video_live'")
    row = page.locator("[data-test=audit] .el-table__row").first
    row.wait_for()
    assert "实时调阅" in row.inner_text()
    assert demo["user"] in row.inner_text()
    page.locator(".el-table__expand-icon").first.click()
    page.wait_for_selector(".el-table__expanded-cell >> text=链上摘要")
    page.screenshot(path=pictures / "audit.png")


def test_the_neighbours_are_equal(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.click("a[href='#/neighbours']")
    page.wait_for_selector("[data-test=neighbours] .el-table__row")
    until(page, "document.body.innerText.split('一致').length > 3")
    page.screenshot(path=pictures / "neighbours.png")


def test_english_is_one_click_away(page: Page, pictures: Path) -> None:
    page.click("[data-test=language]")
    assert page.locator("nav a").first.inner_text() == "Viewing"
    page.screenshot(path=pictures / "english.png")
    page.click("[data-test=language]")


def test_signing_out_closes_the_console(page: Page) -> None:
    page.click("[data-test=sign-out]")
    page.wait_for_selector("input[name=user]")
    answer: dict[str, Any] = page.evaluate("fetch('/api/v1/archive/devices').then((r) => r.json())")
    assert answer["code"] == 40101
