"""An operator works at a camera's signalling page: calls a preset, reads its recordings, handles its alarm.

A platform of its own with one simulated camera that has all of it. Needs Debian's Chromium; else the test is
skipped aloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tongshi.clock import BEIJING
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan
from tongshi.testing.recordings import Recorded
from tongshi.testing.served import Served, served_config

HOME, CODE = "31010100002000000001", "31010100001320000001"
PRESETS = ("全景", "出入口")
SECRET = "gb-2022"  # of a test
DAY = datetime.now(BEIJING).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
Until = Callable[..., None]
SignedIn = Callable[..., AbstractContextManager[Page]]


class Scene:
    """The platform, and the camera beside it."""

    served: Served
    camera: Camera

    @property
    def told(self) -> int:
        """How many instructions the camera's head has had."""
        return len(self.camera.device.channels[CODE].instructions)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Iterator[Scene]:
    made = Scene()
    recorded = (
        Recorded(DAY + timedelta(hours=8), DAY + timedelta(hours=8, minutes=30)),
        Recorded(DAY + timedelta(hours=9), DAY + timedelta(hours=9, minutes=5), "alarm"),
    )
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", presets=PRESETS, recorded=recorded)

    async def furnish(served: Served, stack: AsyncExitStack) -> None:
        made.camera = await served.camera(stack, row, scene_folder, SECRET)

    settings = served_config(tmp_path_factory.mktemp("served"), HOME, "黄浦测试平台", SECRET)
    with Served(settings, furnish) as made.served:
        yield made


@pytest.fixture(scope="module")
def page(scene: Scene, signed_in: SignedIn) -> Iterator[Page]:
    """A console before the camera's signalling page."""
    with signed_in(scene.served.url) as page:
        page.goto(f"{scene.served.url}/#/signalling/device/{CODE}")
        page.wait_for_selector("[data-test=line]")
        yield page


def _shot(page: Page, pictures: Path, name: str) -> None:
    page.wait_for_timeout(300)
    page.screenshot(path=pictures / f"operator-{name}.png")


def test_a_preset_of_the_camera_is_called(page: Page, scene: Scene, pictures: Path) -> None:
    page.click("[data-tab=presets]")
    page.wait_for_selector("[data-preset]")
    assert [row.inner_text().split()[1] for row in page.query_selector_all("[data-test=presets] li")] == [
        *PRESETS
    ]
    before = scene.told
    page.locator("[data-preset]").last.click()
    page.wait_for_selector("[data-test=preset-called]")
    assert "设备应答" in page.inner_text("[data-test=preset-called]")
    assert scene.told == before + 1, "the camera was told nothing"
    page.wait_for_timeout(2_000)
    assert scene.camera.device.channels[CODE].head.view(time.monotonic()).pan == 180.0
    _shot(page, pictures, "presets")


def test_recordings_say_when_of_what_kind_and_how_large(page: Page, pictures: Path) -> None:
    page.click("[data-tab=recordings]")
    page.fill("[data-test=day]", DAY.strftime("%Y-%m-%d"))
    page.wait_for_selector("[data-test=recordings] .el-table__row")
    rows = [row.inner_text() for row in page.query_selector_all("[data-test=recordings] .el-table__row")]
    assert len(rows) == 2
    assert "08:00:00" in rows[0]
    assert "定时" in rows[0]
    assert "30 分钟" in rows[0]
    assert "MB" in rows[0]
    assert "报警" in rows[1]
    _shot(page, pictures, "recordings")


def test_a_recording_is_opened_from_its_row_and_played_fast(page: Page, pictures: Path) -> None:
    page.click("[data-test=recordings] .el-table__row >> nth=0 >> [data-test=play-recording]")
    page.wait_for_selector("video[data-state=playing]", timeout=20_000)
    assert page.inner_text("[data-test=position]").startswith("08:0")
    page.click("[data-test=speed]")
    page.click(".el-select-dropdown__item:visible:has-text('4×')")
    page.wait_for_timeout(3_000)
    assert page.locator("[data-test=notice]").count() == 0
    minutes, seconds = map(int, page.inner_text("[data-test=position]").split(":")[1:])
    assert minutes * 60 + seconds >= 8, "three seconds at four times the speed"
    _shot(page, pictures, "playback")
    page.click("[data-test=stop]")


def test_an_alarm_of_the_camera_stands_on_its_page(
    page: Page, scene: Scene, until: Until, pictures: Path
) -> None:
    scene.served.run(scene.camera.raise_alarm(CODE, method=5, description="有人越过警戒线", alarm_type=6))
    page.goto(f"{scene.served.url}/#/signalling/device/{CODE}?tab=alarms")
    page.wait_for_selector("[data-test=alarms] .el-table__row")
    text = page.inner_text("[data-test=alarms]")
    assert "有人越过警戒线" in text
    assert "待确认" in text or "未确认" in text
    _shot(page, pictures, "alarms")


def test_the_alarm_is_read_and_handled(page: Page, until: Until, pictures: Path) -> None:
    page.click("a[href='#/alarms']")
    page.click("[data-test=alarms] [data-alarm]")
    page.wait_for_selector("[data-test=alarm-detail]")
    assert CODE in page.inner_text("[data-test=alarm-detail]")
    _shot(page, pictures, "alarm")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=alarm-detail]", state="hidden")
    page.click("[data-test=alarms] .el-table__row .el-checkbox")
    page.click("[data-test=acknowledge]")
    page.fill(".el-dialog textarea", "已派员到现场核实")
    page.click("[data-test=reason-confirm]")
    page.wait_for_selector("[data-test=alarm-told]")
    until(page, "document.querySelector('[data-test=alarm-count]').dataset.total === '0'")
    page.click("[data-test=alarm-state]")
    page.click(".el-select-dropdown__item:visible:has-text('已确认')")
    page.wait_for_selector("[data-test=alarms] .el-table__row:has-text('admin 已确认')")
    _shot(page, pictures, "handled")
