"""A person at the console sees where each field came from, edits a record, reads its history, puts it back.

A platform of its own: the demonstration must stay as it is. Needs Debian's Chromium; without it the test is
skipped aloud.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, sync_playwright

from tongshi.app.composition import build
from tongshi.config.sections import (
    Config,
    FilesSection,
    MediaSection,
    PlatformSection,
    SignallingSection,
    StorageSection,
)
from tongshi.resources.devices import store as devices
from tongshi.testing.rest_platform import PASSWORD, sample_archives

HOME, BELOW = "31010400002000000001", "31010600002000000001"
OURS, THEIRS = "31010400001310000001", "31010600001310000001"
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Served:
    """A platform in a thread of its own; the browser's driver keeps the test's."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served-platform")
        self._stack = AsyncExitStack()
        self._config = Config(
            platform=PlatformSection(id=HOME, name="徐汇测试平台"),
            storage=StorageSection(url=f"sqlite:///{folder / 'tongshi.db'}"),
            signalling=SignallingSection(port=0),
            media=MediaSection(http_port=0),
            files=FilesSection(folder=str(folder)),
        )
        self.url = ""

    def __enter__(self) -> Served:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._platform = platform = await build(self._config)
        code = await platform.start(self._stack)
        await platform.accounts.redeem(code or "", "admin", PASSWORD)
        for owner in (HOME, BELOW):
            rows = sample_archives(owner, 3)
            await platform.database.write(devices.upsert_many, rows, owner, platform.clock.at())
        server = uvicorn.Server(
            uvicorn.Config(platform.asgi, host="127.0.0.1", port=0, log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn tells by this flag only
            await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        async def end() -> None:
            server.should_exit = True
            await serving

        self._stack.push_async_callback(end)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.fixture(scope="module")
def page(served: Served) -> Iterator[Page]:
    """A console signed in to that platform."""
    with sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="zh-CN")
        page.goto(served.url)
        page.fill("input[name=user]", "admin")
        page.fill("input[name=password]", PASSWORD)
        page.click("[data-test=submit]")
        page.wait_for_selector("nav")
        yield page
        browser.close()


def _open(page: Page, device_id: str) -> None:
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=device]", state="hidden")
    page.goto(page.url.partition("#")[0] + "#/archive")
    page.click(f"[data-test=archive] [data-device='{device_id}']")
    page.wait_for_selector("[data-test=device]")


def _version(page: Page, until: Callable[..., None], number: int) -> None:
    until(page, f"document.querySelector('[data-test=version]')?.innerText === '{number}'")


def test_each_field_says_where_it_came_from(page: Page, pictures: Path) -> None:
    _open(page, OURS)
    assert page.query_selector("[data-test=origin]") is None
    page.click("[data-test=origins]")
    page.wait_for_selector("[data-test=origin]")
    assert "人工录入 · 版本 1" in page.inner_text("[data-test=device]")
    page.click("[data-test=show-history]")
    page.wait_for_selector("[data-test=history-empty]")
    pictures.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=pictures / "record-origins.png")


def test_a_wrong_value_is_refused_beside_its_field(page: Page, until: Callable[..., None]) -> None:
    page.click("[data-test=edit]")
    page.fill("input[name=Longitude]", "东经")
    page.click("[data-test=edit-preview-button]")
    until(page, "document.querySelector('[data-fault=Longitude]')?.innerText === '此项应为数字'")
    page.fill("input[name=Longitude]", "500")
    page.click("[data-test=edit-preview-button]")
    until(page, "document.querySelector('[data-fault=Longitude]')?.innerText.includes('不得大于 180')")


def test_an_edit_shows_its_difference_before_it_is_saved(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.fill("input[name=Longitude]", "121.4001")
    page.fill("input[name=Name]", "外滩观景台")
    page.click("[data-field='ext.LWSX']")
    page.click(".el-select-dropdown__item:visible:has-text('已联网')")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-form.png")
    page.click("[data-test=edit-preview-button]")
    page.wait_for_selector("[data-test=edit-preview]")
    assert "已联网" in page.inner_text("[data-test=edit-preview]")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-edit.png")
    page.click("[data-test=edit-save]")
    _version(page, until, 2)
    page.wait_for_selector("[data-test=history] [data-number='1']")
    assert "外滩观景台" in page.inner_text("[data-test=history]")
    assert "admin" in page.inner_text("[data-test=history]")


def test_an_undo_shows_its_difference_and_puts_the_record_back(
    page: Page, until: Callable[..., None], pictures: Path
) -> None:
    page.click("[data-number='1'] [data-test=undo]")
    page.wait_for_selector(".el-dialog [data-test=differences]")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-undo.png")
    page.click("[data-test=undo-confirm]")
    _version(page, until, 3)
    page.wait_for_selector("[data-test=history] [data-number='2']")
    assert "路口1号摄像机" in page.inner_text(".el-drawer__header")
    page.wait_for_timeout(400)
    page.screenshot(path=pictures / "record-history.png")


def test_the_record_of_another_platform_is_not_edited(page: Page) -> None:
    _open(page, THEIRS)
    assert page.query_selector("[data-test=edit]") is None
    assert "只有其所属平台可以修改" in page.inner_text("[data-test=device]")
