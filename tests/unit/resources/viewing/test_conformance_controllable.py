"""SFKK 0: a camera that its owner calls uncontrollable is watched and not turned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Forbidden
from tongshi.ids import DeviceId
from tongshi.resources.viewing.access import SharingGuard
from tongshi.resources.viewing.ports import DeviceFact, Viewer
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import Permission

CODE = DeviceId("31010100001320000001")
VIEWER = Viewer(Subject(SubjectKind.USER, "1", "张三"), "127.0.0.1")


def guard(is_controllable: bool | None) -> SharingGuard:
    async def require(*_: object) -> Any:
        return SimpleNamespace(grant="g-1")

    async def fact(_: str) -> DeviceFact:
        return DeviceFact("310101", "31010100002000000001", is_controllable)

    access: Any = SimpleNamespace(require=require)
    devices: Any = SimpleNamespace(fact=fact)
    return SharingGuard(access, devices, ManualClock())


@pytest.mark.parametrize("is_controllable", [True, None])
async def test_a_camera_not_told_to_be_fixed_is_turned(is_controllable: bool | None) -> None:
    assert await guard(is_controllable).admit(VIEWER, Permission.PTZ_CONTROL, CODE, "ptz") == "g-1"


async def test_a_fixed_camera_is_watched_and_not_turned() -> None:
    assert await guard(False).admit(VIEWER, Permission.VIDEO_LIVE, CODE, "live") == "g-1"
    with pytest.raises(Forbidden) as caught:
        await guard(False).admit(VIEWER, Permission.PTZ_CONTROL, CODE, "ptz")
    assert caught.value.code == 40303
