"""An operator opens a camera's signalling page: status, presets, recordings, alarms, sessions and a capture.

A platform of its own with one simulated camera. Needs Debian's Chromium; else the test is skipped aloud.
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
from tongshi.clock import SystemClock
from tongshi.config.sections import (
    AccountSection,
    Config,
    FilesSection,
    MediaSection,
    PlatformSection,
    SignallingSection,
    StorageSection,
)
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan, Faults, FleetPlan, Server, configs
from tongshi.testing.rest_platform import PASSWORD
from tongshi.testing.studio import Studio

HOME, CODE = "31010100002000000001", "31010100001320000001"
SECRET = "gb-2022"  # of a test
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Served:
    """A platform with a camera in a thread of its own; the browser's driver keeps the test's."""

    def __init__(self, folder: Path, clips: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served-platform")
        self._stack = AsyncExitStack()
        self._clips = clips
        self._config = Config(
            platform=PlatformSection(id=HOME, name="黄浦测试平台"),
            storage=StorageSection(url=f"sqlite:///{folder / 'tongshi.db'}"),
            signalling=SignallingSection(port=0, answer_timeout_s=1.5),
            media=MediaSection(http_port=0, first_packet_timeout_s=1.0),
            files=FilesSection(folder=str(folder)),
            accounts=(AccountSection(prefix=HOME[:10], secret=SECRET),),
        )
        self.url = ""

    def __enter__(self) -> Served:
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        platform = await build(self._config)
        code = await platform.start(self._stack)
        await platform.accounts.redeem(code or "", "admin", PASSWORD)
        studio = Studio(self._clips, SystemClock())
        self._stack.push_async_callback(asyncio.to_thread, studio.close)
        row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(no_media=True))
        plan = FleetPlan(
            server=(Server(HOME, "127.0.0.1", platform.signalling.port, SECRET),),
            camera=(row,), keepalive_s=0.5, retry_s=0.5,
        )  # fmt: skip
        camera = Camera(configs(plan)[0], studio)
        await camera.start()
        self._stack.push_async_callback(camera.stop)
        await camera.registered.wait()
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
def served(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), scene_folder) as made:
        yield made


@pytest.fixture(scope="module")
def page(served: Served) -> Iterator[Page]:
    """A console signed in to that platform."""
    with sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="zh-CN")
        page.set_default_timeout(15_000)
        page.goto(served.url)
        page.fill("input[name=user]", "admin")
        page.fill("input[name=password]", PASSWORD)
        page.click("[data-test=submit]")
        page.wait_for_selector("nav")
        yield page
        browser.close()


Until = Callable[..., None]


def _shot(page: Page, pictures: Path, name: str) -> None:
    pictures.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=pictures / f"signalling-{name}.png")


def test_a_failed_picture_leads_to_its_timeline(page: Page, served: Served, pictures: Path) -> None:
    page.goto(f"{served.url}/#/?device={CODE}")
    page.click("[data-test=failed-trace]")
    page.wait_for_selector("[data-test=timeline] li.trouble")
    text = page.inner_text("[data-test=timeline]")
    assert "停在“收到首个媒体包”：设备已应答，但没有发送视频（50402）" in text
    assert "实时点播请求" in text
    _shot(page, pictures, "failed")


def test_a_message_is_read_and_the_capture_saved(page: Page, tmp_path: Path) -> None:
    page.click("[data-test=timeline] [data-message]")
    page.wait_for_selector("[data-test=message-text]")
    assert "CSeq:" in page.inner_text("[data-test=message-text]")
    with page.expect_download() as waiting:
        page.click("[data-test=capture]")
    file = tmp_path / "one.pcap"
    waiting.value.save_as(file)
    assert waiting.value.suggested_filename.endswith(".pcap")
    content = file.read_bytes()
    assert content[:4] == b"\xd4\xc3\xb2\xa1"
    assert f"INVITE sip:{CODE}@".encode() in content


def test_the_archive_leads_to_the_page_of_a_camera(page: Page, served: Served, pictures: Path) -> None:
    page.goto(f"{served.url}/#/archive")
    page.click(f"[data-signalling='{CODE}']")
    page.wait_for_selector("[data-test=line]")
    assert "设备直接注册" in page.inner_text("[data-test=line]")
    page.click("[data-test=ask-info]")
    page.wait_for_selector("[data-test=info]")
    page.click("[data-test=ask-status]")
    page.wait_for_selector("[data-test=device-status]")
    assert "正常" in page.inner_text("[data-test=device-status]")
    _shot(page, pictures, "camera")


def test_snapshots_are_taken_received_and_looked_at(page: Page, until: Until, pictures: Path) -> None:
    page.click("[data-tab=snapshots]")
    page.wait_for_selector("[data-test=no-snapshots]")
    page.click("[data-test=take]")
    page.wait_for_selector("article[data-state=complete]", timeout=20_000)
    assert "已收 1/1 张" in page.inner_text("article")
    page.click("[data-picture]")
    page.wait_for_selector("[data-test=picture]")
    until(page, "document.querySelector('[data-test=picture]').naturalWidth === 640")
    _shot(page, pictures, "snapshots")


@pytest.mark.parametrize("tab", ["presets", "recordings", "alarms", "sessions"])
def test_each_tab_says_what_there_is_or_why_not(page: Page, pictures: Path, tab: str) -> None:
    page.click(f"[data-tab={tab}]")
    page.wait_for_selector(f"[data-test={'traces' if tab == 'sessions' else tab}]")
    page.wait_for_timeout(1_500)
    assert page.inner_text(".pane").strip()
    _shot(page, pictures, tab)


def test_a_registration_is_read_in_words_without_secrets(page: Page) -> None:
    page.click("[data-trace]:has-text('注册请求')")
    page.wait_for_selector("[data-test=timeline] li:has-text('401 要求认证')")
    page.click("[data-test=timeline] li:has-text('携带认证') [data-message]")
    text = page.inner_text("[data-test=message-text]")
    assert 'response="' + "*" * 64 + '"' in text


def test_the_peers_page_shows_a_profile_that_is_set_and_undone(
    page: Page, served: Served, until: Until, pictures: Path
) -> None:
    page.goto(f"{served.url}/#/signalling")
    page.wait_for_selector(f"[data-peer='{CODE}']")
    _shot(page, pictures, "peers")
    page.click(f"[data-peer='{CODE}']")
    page.wait_for_selector("[data-test=peer]")
    before = page.inner_text("[data-test=edition]")
    page.select_option("[data-test=wish-edition]", "2.0")
    page.fill("[data-test=wish-reason]", "现场核实为旧固件")
    page.click("[data-test=save-profile]")
    page.wait_for_selector("[data-test=told]")
    assert "2016 版" in page.inner_text("[data-test=edition]")
    assert "现场核实为旧固件" in page.inner_text("[data-test=told]")
    _shot(page, pictures, "peer")
    page.fill("[data-test=wish-reason]", "恢复")
    page.click("[data-test=undo-profile]")
    until(page, f"document.querySelector('[data-test=edition]').innerText === {before!r}")
