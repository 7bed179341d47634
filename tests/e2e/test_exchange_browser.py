"""A person at the city's console breaks a district's link, watches it fall behind, and lets it catch up.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page
from sqlalchemy import Connection

from tongshi.clock import SystemClock
from tongshi.resources.devices import store as devices
from tongshi.storage.engine import Database

DISTRICT = "31010100002000000001"
CAMERA = "31010100001320000001"
KEYBOARD = "123456789"

EQUAL = "document.querySelector('[data-test=equality]')?.dataset.equal === 'true'"
DIFFERENT = "document.querySelector('[data-test=equality]')?.dataset.equal === 'false'"


def _in_the_district(demo_folder: Path, change: Callable[[Connection], object]) -> None:
    """Change the district's own record, as an import there would."""

    async def run() -> None:
        database = await Database.open(f"sqlite:///{demo_folder}/run/huangpu/tongshi.db", migrate=False)
        try:
            await database.write(change)
        finally:
            await database.close()

    # The browser's driver keeps a loop in this thread.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, run()).result(20)


def _change_a_camera(conn: Connection) -> None:
    held = devices.get(conn, CAMERA)
    assert held is not None
    ext = msgspec.structs.replace(held.ext, keyboard_number=KEYBOARD)
    new = msgspec.structs.replace(held, ext=ext, revision=0, updated_at=None)
    devices.upsert_many(conn, [new], DISTRICT, SystemClock().at())


def _remove_four_cameras(conn: Connection) -> None:
    keys = [f"{CAMERA[:-1]}{number}" for number in range(2, 6)]
    assert devices.mark_missing(conn, DISTRICT, keys, SystemClock().at()) == 4


def _bring_the_four_back(conn: Connection) -> None:
    held = [devices.get(conn, f"{CAMERA[:-1]}{number}") for number in range(2, 6)]
    again = [msgspec.structs.replace(one, revision=0, missing_since=None) for one in held if one is not None]
    assert len(again) == 4
    devices.upsert_many(conn, again, DISTRICT, SystemClock().at())


def _open_link(page: Page) -> None:
    page.click("a[href='#/neighbours']")
    page.click(f"[data-platform='{DISTRICT}']")
    page.wait_for_selector("[data-test=link]")
    page.wait_for_timeout(400)  # the drawer slides in


def test_an_intact_link_is_equal(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.click("a[href='#/neighbours']")
    page.wait_for_selector("[data-test=neighbours] .el-table__row")
    _open_link(page)
    until(page, EQUAL)
    assert page.get_attribute("[data-test=lag]", "data-lag") == "0"
    assert DISTRICT in page.inner_text(f"[data-owner='{DISTRICT}']")
    page.screenshot(path=pictures / "exchange-equal.png")


def test_pausing_asks_for_a_reason_and_says_who_did_it(
    demo: dict[str, str], page: Page, pictures: Path
) -> None:
    page.click("[data-test=pause]")
    page.wait_for_selector("[name=reason]")
    assert page.is_disabled("[data-test=reason-confirm]")
    page.fill("[name=reason]", "演练：断开黄浦区链路")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "exchange-pause.png")
    page.click("[data-test=reason-confirm]")
    page.wait_for_selector("[data-test=paused]")
    words = page.inner_text("[data-test=paused]")
    assert demo["user"] in words
    assert "演练：断开黄浦区链路" in words
    assert page.is_disabled("[data-test=sync]")


def test_a_change_below_shows_as_lag_and_difference(
    demo_folder: Path, page: Page, until: Callable[..., None], pictures: Path
) -> None:
    _in_the_district(demo_folder, _change_a_camera)
    until(page, DIFFERENT)
    until(page, "Number(document.querySelector('[data-test=lag]').dataset.lag) >= 1")
    assert "310101" in page.inner_text(f"[data-owner='{DISTRICT}']")
    page.wait_for_timeout(4_500)  # two more looks, for the line in the picture
    page.screenshot(path=pictures / "exchange-paused.png")


def test_going_on_catches_up_by_itself(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.click("[data-test=resume]")
    until(page, EQUAL)
    until(page, "document.querySelector('[data-test=lag]').dataset.lag === '0'")
    assert page.query_selector("[data-test=paused]") is None
    page.screenshot(path=pictures / "exchange-resumed.png")


@pytest.mark.parametrize("button", ["sync-full", "sync"])
def test_synchronising_now_ends_well(page: Page, button: str, until: Callable[..., None]) -> None:
    page.click(f"[data-test={button}]")
    kind = "增量" if button == "sync" else "全量"
    until(page, f"document.querySelector('[data-test=sync-words]')?.innerText.includes('同步完成（{kind}）')")
    until(page, EQUAL)


def test_the_archive_is_searched_and_read(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=link]", state="hidden")
    page.click("a[href='#/archive']")
    page.wait_for_selector("[data-test=archive] .el-table__row")
    page.screenshot(path=pictures / "archive.png")
    page.fill("[data-test=archive-search]", "人民广场")
    until(page, "document.querySelectorAll('[data-test=archive] .el-table__row').length === 1")
    page.click(f"[data-device='{CAMERA}']")
    page.wait_for_selector("[data-test=device]")
    shown = page.inner_text("[data-test=device]")
    assert "键盘编号" in shown
    assert KEYBOARD in shown, "the change that was made below"
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "archive-device.png")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=device]", state="hidden")


def test_a_filter_that_finds_nothing_says_so(page: Page, until: Callable[..., None]) -> None:
    page.fill("[data-test=archive-search]", "没有这样的设备")
    until(page, "document.body.innerText.includes('没有符合条件的档案')")
    page.fill("[data-test=archive-search]", "")
    page.fill("[data-test=civil]", "31010")
    until(page, "document.body.innerText.includes('行政区划代码应为')")
    page.fill("[data-test=civil]", "310115")
    until(page, "document.querySelector('[data-test=total]').dataset.total === '5'")


def test_issues_are_listed_by_severity_and_rule(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.fill("[data-test=civil]", "")
    page.click("[data-test=severity]")
    page.click(".el-select-dropdown__item:has-text('有错误的')")
    page.wait_for_selector("[data-test=issues] .el-table__row")
    until(page, "document.querySelectorAll('.rules button').length > 2")
    page.screenshot(path=pictures / "archive-issues.png")
    page.click(".rules button >> nth=0")
    until(page, "document.querySelectorAll('.rules button.chosen').length === 1")
    page.click("button:has-text('清除条件')")
    page.wait_for_selector("[data-test=archive] .el-table__row")


def test_many_devices_gone_at_once_wait_for_a_person_with_a_reason(
    demo_folder: Path, page: Page, until: Callable[..., None], pictures: Path
) -> None:
    _in_the_district(demo_folder, _remove_four_cameras)
    _open_link(page)
    page.wait_for_selector("[data-test=held]", timeout=20_000)
    assert "4 台设备将同时缺失" in page.inner_text("[data-test=held]")
    page.screenshot(path=pictures / "exchange-held.png")
    page.click("[data-test=confirm-vanishing]")
    page.fill("[name=reason]", "已与黄浦区核实：道路改造拆除")
    page.click("[data-test=reason-confirm]")
    page.wait_for_selector("[data-test=held]", state="hidden", timeout=30_000)
    until(page, "document.querySelectorAll('[data-test=quarantine] tbody tr').length === 4")
    until(page, EQUAL)
    page.screenshot(path=pictures / "exchange-quarantine.png")


def test_devices_told_of_again_leave_the_quarantine(
    demo_folder: Path, page: Page, until: Callable[..., None]
) -> None:
    _in_the_district(demo_folder, _bring_the_four_back)
    until(page, "document.querySelectorAll('[data-test=quarantine] tbody tr').length === 0", 30)
    until(page, EQUAL)
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=link]", state="hidden")


def test_english_reaches_both_pages(page: Page, until: Callable[..., None], pictures: Path) -> None:
    page.click("a[href='#/archive']")
    page.click("[data-test=language]")
    assert page.inner_text("h2") == "Device archive"
    _open_link(page)
    until(page, EQUAL)
    assert "both sides equal" in page.inner_text("[data-test=equality]")
    page.screenshot(path=pictures / "exchange-english.png")
