"""A person at the city's console: signs in, opens a district's camera, sees it move, turns it.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STATIC = Path(__file__).parents[2] / "src" / "tongshi" / "web" / "static" / "index.html"
PICTURES = Path(os.environ.get("TONGSHI_SCREENSHOTS", "var/screenshots"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
READY_TIMEOUT_S = 90

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED ALOUD: Debian's chromium is not installed"),
    pytest.mark.skipif(not STATIC.exists(), reason="SKIPPED ALOUD: the console is not built (make setup)"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The demonstration, running; what it announces."""
    folder = tmp_path_factory.mktemp("demo")
    ready = folder / "ready.json"
    log = folder / "demo.log"
    command = [sys.executable, "-m", "tongshi.cli", "demo"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--folder", str(folder / "run"), "--ready-file", str(ready), "--port-offset", "1100"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        yield _announced(process, ready, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _announced(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, str]:
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")
        if ready.exists() and (text := ready.read_text()):
            found: dict[str, str] = json.loads(text)
            return found
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


@pytest.fixture(scope="module")
def page(demo: dict[str, str]) -> Iterator[Page]:
    """A signed-in console."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 820}, locale="zh-CN")
        page.goto(demo["url"])
        page.fill("input[name=user]", demo["user"])
        page.fill("input[name=password]", demo["password"])
        page.screenshot(path=PICTURES / "sign-in.png")
        page.click("[data-test=submit]")
        page.wait_for_selector("[data-test=devices] li")
        yield page
        browser.close()


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


def _until(page: Page, expression: str, timeout_s: float = 15.0) -> None:
    """Wait for an expression. Not ``wait_for_function``: the console's policy forbids eval in the page."""
    end = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


def _rows(page: Page, wanted: int) -> None:
    _until(page, f"document.querySelectorAll('[data-test=devices] li').length === {wanted}")


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


def test_a_district_camera_plays_and_its_pixels_change(demo: dict[str, str], page: Page) -> None:
    _open(page, demo["device"])
    first_time, first = _time(page), _pixels(page)
    _until(page, f"document.querySelector('video').currentTime > {first_time} + 2")
    later = _pixels(page)
    changed = sum(abs(a - b) > 8 for a, b in zip(first, later, strict=True))
    assert changed > 100, f"only {changed} of {len(first)} samples changed"
    assert len(set(first)) > 20, "the picture is one colour"
    page.screenshot(path=PICTURES / "console.png")


def test_every_step_shows_its_time(page: Page) -> None:
    steps: dict[str, str] = {
        row.get_attribute("data-step") or "": row.inner_text()
        for row in page.query_selector_all("[data-test=timing] li")
    }
    for step in ("requested", "answered", "firstPacket", "firstKeyFrame", "firstPicture"):
        assert "ms" in steps[step], steps


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


def test_search_narrows_the_list_and_says_when_nothing_is_there(page: Page) -> None:
    page.fill("[data-test=search]", "滴水湖")
    _rows(page, 1)
    page.fill("[data-test=search]", "没有这样的设备")
    _rows(page, 0)
    assert "没有可见的设备" in page.inner_text("aside")
    page.fill("[data-test=search]", "")
    _rows(page, 12)


def test_a_codec_the_browser_lacks_is_explained(page: Page) -> None:
    playable = "MediaSource.isTypeSupported('video/mp4; codecs=\"hvc1.1.6.L93.B0\"')"
    if page.evaluate(playable):
        pytest.skip("this Chromium decodes H.265")
    page.click("[data-device='31010100001320000004']")
    page.wait_for_selector("[data-test=failure]", timeout=20_000)
    assert "H.265" in page.inner_text("[data-test=failure]")
    page.screenshot(path=PICTURES / "h265.png")


def test_the_neighbours_are_equal(page: Page) -> None:
    page.click("a[href='#/neighbours']")
    page.wait_for_selector("[data-test=neighbours] .el-table__row")
    _until(page, "document.body.innerText.split('一致').length > 3")
    page.screenshot(path=PICTURES / "neighbours.png")


def test_english_is_one_click_away(page: Page) -> None:
    page.click("[data-test=language]")
    assert page.inner_text("nav").startswith("Viewing")
    page.screenshot(path=PICTURES / "english.png")
    page.click("[data-test=language]")


def test_signing_out_closes_the_console(page: Page) -> None:
    page.click("[data-test=sign-out]")
    page.wait_for_selector("input[name=user]")
    answer: dict[str, Any] = page.evaluate("fetch('/api/v1/archive/devices').then((r) => r.json())")
    assert answer["code"] == 40101
