"""An administrator at the page of media: drains a node and takes it back, has a camera recorded, ends it.

A platform of its own with one simulated camera. Needs Debian's Chromium; else the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tongshi.testing.plan import CameraPlan
from tongshi.testing.served import Served, served_config

HOME, CODE = "31010100002000000001", "31010100001320000001"
SECRET = "gb-2022"  # of a test
SignedIn = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path, signed_in: SignedIn) -> Iterator[Page]:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")

    async def furnish(served: Served, stack: AsyncExitStack) -> None:
        await served.camera(stack, row, scene_folder, SECRET)

    settings = served_config(tmp_path_factory.mktemp("served"), HOME, "黄浦测试平台", SECRET)
    with Served(settings, furnish) as served, signed_in(served.url) as page:
        page.goto(f"{served.url}/#/media")
        page.wait_for_selector("[data-test=media-nodes] .el-table__row")
        yield page


def test_a_node_is_drained_and_taken_back(page: Page, pictures: Path) -> None:
    nodes = page.locator("[data-test=media-nodes]")
    assert "通视引擎" in nodes.inner_text()
    assert "可用" in nodes.inner_text()
    page.click("[data-drain=local]")
    page.wait_for_selector("[data-resume=local]")
    assert "已排空" in nodes.inner_text()
    page.click("[data-resume=local]")
    page.wait_for_selector("[data-drain=local]")
    assert "可用" in nodes.inner_text()
    page.screenshot(path=pictures / "media-nodes.png")


def test_without_a_rule_nothing_is_recorded_and_the_page_says_so(page: Page) -> None:
    assert "本平台不录制任何视频" in page.inner_text("[data-test=recording-rules]")


def test_a_rule_for_an_unknown_camera_is_refused_in_words(page: Page) -> None:
    page.click("[data-test=rule-add]")
    assert page.locator("[data-test=rule-save]").is_disabled(), "neither a device nor a division is given"
    page.fill("input[name=deviceId]", "31010100001320009999")
    page.click("[data-test=rule-save]")
    page.wait_for_selector("#recording-rule [data-test=problem]")
    page.keyboard.press("Escape")


def test_a_camera_is_recorded_by_rule_until_the_rule_is_removed(page: Page, pictures: Path) -> None:
    page.click("[data-test=rule-add]")
    page.fill("input[name=deviceId]", CODE)
    page.fill("input[name=retentionDays]", "7")
    page.click("[data-test=rule-save]")
    page.wait_for_selector("[data-edit]")
    assert "7 天" in page.inner_text("[data-test=recording-rules]")
    for _ in range(40):
        page.click("[data-test=media-reload]")
        page.wait_for_timeout(250)
        if "录制中 1 路" in page.inner_text("[data-test=recording-space]"):
            break
    assert "录制中 1 路" in page.inner_text("[data-test=recording-space]")
    page.screenshot(path=pictures / "media-recording.png")
    page.click("[data-edit]")
    page.fill("input[name=retentionDays]", "14")
    page.click("[data-test=rule-save]")
    page.wait_for_selector("text=14 天")
    page.click("[data-remove]")
    page.click("[data-test=rule-remove]")
    page.wait_for_selector("text=本平台不录制任何视频")
