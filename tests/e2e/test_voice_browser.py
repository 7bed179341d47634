"""An operator speaks through the browser's microphone, and the camera's loudspeaker hears it; and listens.

The microphone is Chromium's fake one, which beeps. Needs Debian's Chromium; else the test is skipped aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tongshi.ids import DeviceId
from tongshi.protocols.media.g711 import linear
from tongshi.resources.viewing.ports import Viewer
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.testing.camera import Camera
from tongshi.testing.loudspeaker import Habits, Hearing
from tongshi.testing.plan import CameraPlan
from tongshi.testing.served import Served, served_config

HOME, CODE, OUTPUT = "31010100002000000001", "31010100001320000001", "31010100001370000001"
SECRET = "gb-2022"  # of a test
VOICE = "[data-test=voice][data-mode={}][data-stage={}]"
NO_MICROPHONE = "navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{}') }}"
Until = Callable[..., None]
SignedIn = Callable[..., AbstractContextManager[Page]]


class Scene:
    """The platform, and the one camera with a loudspeaker beside it."""

    served: Served
    camera: Camera

    @property
    def hearing(self) -> Hearing:
        return self.camera.loudspeaker.hearings[OUTPUT]

    @property
    def is_silent(self) -> bool:
        """Is nobody spoken to and nothing watched?"""
        return not self.camera.loudspeaker.calls and not self.camera.calls.count


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Iterator[Scene]:
    made = Scene()
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True, voice_outputs=1)

    async def furnish(served: Served, stack: AsyncExitStack) -> None:
        made.camera = await served.camera(stack, row, scene_folder, SECRET)

    settings = served_config(tmp_path_factory.mktemp("served"), HOME, "黄浦测试平台", SECRET)
    with Served(settings, furnish) as made.served:
        yield made


@pytest.fixture(scope="module")
def page(scene: Scene, signed_in: SignedIn) -> Iterator[Page]:
    """A console with the camera's picture before it; its microphone is Chromium's beeping one."""
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with signed_in(scene.served.url, flags) as page:
        page.goto(f"{scene.served.url}/#/?device={CODE}")
        page.wait_for_selector("video[data-state=playing]", timeout=20_000)
        # Opened by its address, a dome is known to turn all the same.
        page.wait_for_selector("[data-ptz=right]")
        yield page


def _wait(page: Page, holds: Callable[[], bool], what: str) -> None:
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{what}\n{page.inner_text('[data-test=voice]')}")


def _loudest(hearing: Hearing) -> int:
    return max(abs(linear(code, "alaw")) for one in hearing.spoken for code in one.payload)


def test_a_broadcast_is_heard_by_the_camera(page: Page, scene: Scene, until: Until, pictures: Path) -> None:
    page.click("[data-test=voice-broadcast]")
    page.wait_for_selector(VOICE.format("broadcast", "open"))
    _wait(page, lambda: len(scene.hearing.spoken) > 50, "a second of sound that is no silence")
    until(page, "Number(document.querySelector('[data-test=voice-level]').dataset.level) > 0.3")
    page.screenshot(path=pictures / "voice-broadcast.png")
    assert _loudest(scene.hearing) > 1_000, "the loudspeaker heard next to nothing"
    assert {(one.payload_type, len(one.payload)) for one in scene.hearing.packets} == {(8, 160)}
    page.click("[data-test=voice-broadcast]")
    _wait(page, lambda: not scene.camera.loudspeaker.calls, "the loudspeaker is let go")


def test_one_talks_while_the_button_is_held_and_hears_when_it_is_not(
    page: Page, scene: Scene, until: Until
) -> None:
    button = page.locator("[data-test=voice-talk]")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 10)
    page.mouse.down()
    page.wait_for_selector(VOICE.format("talk", "open"))
    assert "正在讲话" in page.inner_text("[data-test=voice-words]")
    _wait(page, lambda: len(scene.hearing.spoken) > 25, "half a second of sound")
    page.mouse.up()
    page.wait_for_timeout(400)
    spoken = len(scene.hearing.spoken)
    until(page, "Number(document.querySelector('[data-test=voice-heard]').dataset.level) > 0.2")
    page.wait_for_timeout(600)
    assert len(scene.hearing.spoken) == spoken, "it was spoken to while the button was up"
    assert "正在收听" in page.inner_text("[data-test=voice-words]")
    page.click("[data-test=voice-end]")
    _wait(page, lambda: not scene.camera.loudspeaker.calls, "the loudspeaker is let go")


def test_the_sound_of_the_device_is_heard(page: Page, scene: Scene, until: Until) -> None:
    page.click("[data-test=voice-listen]")
    page.wait_for_selector(VOICE.format("listen", "open"))
    until(page, "Number(document.querySelector('[data-test=voice-heard]').dataset.level) > 0.3")
    assert not scene.camera.loudspeaker.calls
    page.click("[data-test=voice-listen]")
    page.wait_for_selector(VOICE.format("''", "idle"))


def test_who_holds_the_device_is_named(page: Page, scene: Scene, pictures: Path) -> None:
    voice = scene.served.platform.voice
    other = Viewer(Subject(SubjectKind.PLATFORM, HOME, "城运中心"), "127.0.0.1", "test")
    line = scene.served.run(voice.relay(other, DeviceId(CODE), lambda: None))
    page.click("[data-test=voice-broadcast]")
    page.wait_for_selector("[data-test=voice-problem]")
    assert "正在讲话的是 城运中心" in page.inner_text("[data-test=voice-problem]")
    assert "40903" in page.inner_text("[data-test=voice-problem]")
    page.screenshot(path=pictures / "voice-held.png")
    scene.served.run(line.end())


def test_a_device_that_refuses_is_said_to(page: Page, scene: Scene) -> None:
    scene.camera.loudspeaker.habits = Habits(refuses=True)
    page.click("[data-test=voice-broadcast]")
    page.wait_for_selector("[data-test=voice-problem]:has-text('50201')")
    scene.camera.loudspeaker.habits = Habits()


def test_leaving_the_page_ends_the_voice(page: Page, scene: Scene) -> None:
    page.click("[data-test=voice-broadcast]")
    page.wait_for_selector(VOICE.format("broadcast", "open"))
    page.click("a[href='#/archive']")
    voice = scene.served.platform.voice
    for _ in range(150):
        if not len(voice) and scene.is_silent:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{len(voice)} voice sessions, {scene.camera.calls.count} pictures are left")


@pytest.mark.parametrize(
    ("name", "script", "words"),
    [
        ("denied", NO_MICROPHONE.format("NotAllowedError"), "没有允许使用话筒"),
        ("absent", NO_MICROPHONE.format("NotFoundError"), "没有找到话筒"),
        ("insecure", "Object.defineProperty(window, 'isSecureContext', {value: false})", "只在 https 地址"),
    ],
)
def test_without_a_microphone_the_reason_is_said_and_the_device_not_called(
    page: Page, scene: Scene, name: str, script: str, words: str
) -> None:
    before = len(scene.camera.loudspeaker.hearings)
    page.goto(f"{scene.served.url}/#/?device={CODE}&why={name}")
    page.wait_for_selector("[data-test=voice-broadcast]")
    page.evaluate(f"() => {{ {script} }}")
    page.click("[data-test=voice-broadcast]")
    page.wait_for_selector("[data-test=voice-problem]")
    assert words in page.inner_text("[data-test=voice-problem]")
    assert not scene.camera.loudspeaker.calls
    assert len(scene.camera.loudspeaker.hearings) == before
    page.reload()
