"""A person at the city's console breaks a district's link, watches it fall behind, and lets it catch up.

Needs Debian's Chromium; without it the test is skipped aloud.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import Connection

from tongshi.clock import SystemClock
from tongshi.resources.devices import store as devices
from tongshi.storage.engine import Database

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
]
READY_TIMEOUT_S = 90
DISTRICT = "31010100002000000001"
CAMERA = "31010100001320000001"
KEYBOARD = "123456789"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED ALOUD: Debian's chromium is not installed"),
    pytest.mark.skipif(not STATIC.exists(), reason="SKIPPED ALOUD: the console is not built (make setup)"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[dict[str, str]]:
    """The demonstration, running; what it announces."""
    ready, log = folder / "ready.json", folder / "demo.log"
    command = [sys.executable, "-m", "tongshi.cli", "demo", "--folder", str(folder / "run")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), "--port-offset", "1700"],
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
        page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="zh-CN")
        page.goto(demo["url"])
        page.fill("input[name=user]", demo["user"])
        page.fill("input[name=password]", demo["password"])
        page.click("[data-test=submit]")
        page.wait_for_selector("[data-test=devices] li")
        yield page
        browser.close()


def _until(page: Page, expression: str, timeout_s: float = 20.0) -> None:
    """Wait for an expression. Not ``wait_for_function``: the console's policy forbids eval in the page."""
    end = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression}\n{page.inner_text('body')}"
        page.wait_for_timeout(100)


def _is_equal(page: Page, is_equal: bool) -> None:
    wanted = "true" if is_equal else "false"
    _until(page, f"document.querySelector('[data-test=equality]')?.dataset.equal === '{wanted}'")


def _in_the_district(folder: Path, change: Callable[[Connection], object]) -> None:
    """Change the district's own record, as an import there would."""

    async def run() -> None:
        database = await Database.open(f"sqlite:///{folder}/run/huangpu/tongshi.db", migrate=False)
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


def _open_link(page: Page) -> None:
    page.click("a[href='#/neighbours']")
    page.click(f"[data-platform='{DISTRICT}']")
    page.wait_for_selector("[data-test=link]")
    page.wait_for_timeout(400)  # the drawer slides in


def test_an_intact_link_is_equal(page: Page) -> None:
    page.click("a[href='#/neighbours']")
    page.wait_for_selector("[data-test=neighbours] .el-table__row")
    _open_link(page)
    _is_equal(page, True)
    assert page.get_attribute("[data-test=lag]", "data-lag") == "0"
    assert DISTRICT in page.inner_text(f"[data-owner='{DISTRICT}']")
    page.screenshot(path=PICTURES / "exchange-equal.png")


def test_pausing_asks_for_a_reason_and_says_who_did_it(demo: dict[str, str], page: Page) -> None:
    page.click("[data-test=pause]")
    page.wait_for_selector("[name=reason]")
    assert page.is_disabled("[data-test=reason-confirm]")
    page.fill("[name=reason]", "演练：断开黄浦区链路")
    page.wait_for_timeout(400)
    page.screenshot(path=PICTURES / "exchange-pause.png")
    page.click("[data-test=reason-confirm]")
    page.wait_for_selector("[data-test=paused]")
    words = page.inner_text("[data-test=paused]")
    assert demo["user"] in words
    assert "演练：断开黄浦区链路" in words
    assert page.is_disabled("[data-test=sync]")


def test_a_change_below_shows_as_lag_and_difference(folder: Path, page: Page) -> None:
    _in_the_district(folder, _change_a_camera)
    _is_equal(page, False)
    _until(page, "Number(document.querySelector('[data-test=lag]').dataset.lag) >= 1")
    assert "310101" in page.inner_text(f"[data-owner='{DISTRICT}']")
    page.wait_for_timeout(4_500)  # two more looks, for the line in the picture
    page.screenshot(path=PICTURES / "exchange-paused.png")


def test_going_on_catches_up_by_itself(page: Page) -> None:
    page.click("[data-test=resume]")
    _is_equal(page, True)
    _until(page, "document.querySelector('[data-test=lag]').dataset.lag === '0'")
    assert page.query_selector("[data-test=paused]") is None
    page.screenshot(path=PICTURES / "exchange-resumed.png")


@pytest.mark.parametrize("button", ["sync-full", "sync"])
def test_synchronising_now_ends_well(page: Page, button: str) -> None:
    page.click(f"[data-test={button}]")
    kind = "增量" if button == "sync" else "全量"
    _until(
        page, f"document.querySelector('[data-test=sync-words]')?.innerText.includes('同步完成（{kind}）')"
    )
    _is_equal(page, True)


def test_the_archive_is_searched_and_read(page: Page) -> None:
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=link]", state="hidden")
    page.click("a[href='#/archive']")
    page.wait_for_selector("[data-test=archive] .el-table__row")
    page.screenshot(path=PICTURES / "archive.png")
    page.fill("[data-test=archive-search]", "人民广场")
    _until(page, "document.querySelectorAll('[data-test=archive] .el-table__row').length === 1")
    page.click(f"[data-device='{CAMERA}']")
    page.wait_for_selector("[data-test=device]")
    shown = page.inner_text("[data-test=device]")
    assert "键盘编号" in shown
    assert KEYBOARD in shown, "the change that was made below"
    page.wait_for_timeout(400)
    page.screenshot(path=PICTURES / "archive-device.png")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=device]", state="hidden")


def test_a_filter_that_finds_nothing_says_so(page: Page) -> None:
    page.fill("[data-test=archive-search]", "没有这样的设备")
    _until(page, "document.body.innerText.includes('没有符合条件的档案')")
    page.fill("[data-test=archive-search]", "")
    page.fill("[data-test=civil]", "31010")
    _until(page, "document.body.innerText.includes('行政区划代码应为')")
    page.fill("[data-test=civil]", "310115")
    _until(page, "document.querySelector('[data-test=total]').dataset.total === '5'")


def test_issues_are_listed_by_severity_and_rule(page: Page) -> None:
    page.fill("[data-test=civil]", "")
    page.click("[data-test=severity]")
    page.click(".el-select-dropdown__item:has-text('有错误的')")
    page.wait_for_selector("[data-test=issues] .el-table__row")
    _until(page, "document.querySelectorAll('.rules button').length > 2")
    page.screenshot(path=PICTURES / "archive-issues.png")
    page.click(".rules button >> nth=0")
    _until(page, "document.querySelectorAll('.rules button.chosen').length === 1")
    page.click("button:has-text('清除条件')")
    page.wait_for_selector("[data-test=archive] .el-table__row")


def test_many_devices_gone_at_once_wait_for_a_person_with_a_reason(folder: Path, page: Page) -> None:
    _in_the_district(folder, _remove_four_cameras)
    _open_link(page)
    page.wait_for_selector("[data-test=held]", timeout=20_000)
    assert "4 台设备将同时缺失" in page.inner_text("[data-test=held]")
    page.screenshot(path=PICTURES / "exchange-held.png")
    page.click("[data-test=confirm-vanishing]")
    page.fill("[name=reason]", "已与黄浦区核实：道路改造拆除")
    page.click("[data-test=reason-confirm]")
    page.wait_for_selector("[data-test=held]", state="hidden", timeout=30_000)
    _until(page, "document.querySelectorAll('[data-test=quarantine] tbody tr').length === 4")
    _is_equal(page, True)
    page.screenshot(path=PICTURES / "exchange-quarantine.png")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=link]", state="hidden")


def test_english_reaches_both_pages(page: Page) -> None:
    page.click("a[href='#/archive']")
    page.click("[data-test=language]")
    assert page.inner_text("h2") == "Device archive"
    _open_link(page)
    _is_equal(page, True)
    assert "both sides equal" in page.inner_text("[data-test=equality]")
    page.screenshot(path=PICTURES / "exchange-english.png")
