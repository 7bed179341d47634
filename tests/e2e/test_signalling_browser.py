"""An operator opens a camera's signalling page: status, presets, recordings, alarms, sessions and a capture.

A platform of its own with one simulated camera. Needs Debian's Chromium; else the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tongshi.testing.plan import CameraPlan, Faults
from tongshi.testing.served import Served, served_config

HOME, CODE = "31010100002000000001", "31010100001320000001"
SECRET = "gb-2022"  # of a test


Until = Callable[..., None]
SignedIn = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Iterator[Served]:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", faults=Faults(no_media=True))

    async def furnish(made: Served, stack: AsyncExitStack) -> None:
        await made.camera(stack, row, scene_folder, SECRET)

    settings = served_config(tmp_path_factory.mktemp("served"), HOME, "黄浦测试平台", SECRET)
    with Served(settings, furnish) as made:
        yield made


@pytest.fixture(scope="module")
def page(served: Served, signed_in: SignedIn) -> Iterator[Page]:
    """A console signed in to that platform."""
    with signed_in(served.url) as page:
        yield page


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
    page.fill("[data-test=count]", "2")
    page.click("[data-test=take]")
    page.wait_for_selector("article[data-state=waiting]")
    page.wait_for_selector("article[data-state=complete]", timeout=20_000)
    assert "已收 2/2 张" in page.inner_text("article")
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
