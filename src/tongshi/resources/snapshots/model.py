"""Orders of snapshots, the pictures that came of them, and what is wrong with either.

Implements: GB/T 28181-2022 9.14
Implements: GB/T 28181-2022 A.2.5.7
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.snapshot_name import PICTURE, bare_name, parse_snapshot_name

MAX_PICTURES: Final = 10  # of one order (A.2.1.24)
MAX_INTERVAL_S: Final = 3_600
MAX_WAITING: Final = 1_000  # orders whose pictures are awaited
MAX_WAITING_OF_DEVICE: Final = 2
MAX_ORDERS: Final = 200_000  # past this the oldest go before their time
GRACE: Final = timedelta(seconds=120)  # after the last picture was due
CLOCK_TOLERANCE: Final = timedelta(minutes=10)


class Origin(StrEnum):
    """Where the picture comes from: taken and uploaded by the device, or of the stream we receive."""

    DEVICE = "device"
    STREAM = "stream"


class State(StrEnum):
    """How it stands with an order."""

    WAITING = "waiting"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


class Issue(StrEnum):
    """What is wrong with a picture that was kept all the same."""

    NO_NAME = "noName"
    NAME_LAYOUT = "nameLayout"
    NAME_DEVICE = "nameDevice"
    NAME_KIND = "nameKind"
    NAME_TIME = "nameTime"
    NAME_TWICE = "nameTwice"
    UNTOLD = "untold"


ISSUE_TEXTS: Final[dict[Issue, str]] = {
    Issue.NO_NAME: "设备没有给出文件名",
    Issue.NAME_LAYOUT: "文件名不是 41 位数字（GB/T 28181-2022 9.14.1）",
    Issue.NAME_DEVICE: "文件名中的设备编码不是被抓拍的设备",
    Issue.NAME_KIND: "文件名第 21、22 位不是 02（图片）",
    Issue.NAME_TIME: "文件名中的时间与平台收到图像的时间相差过大",
    Issue.NAME_TWICE: "同一文件名上传了两幅不同的图像",
    Issue.UNTOLD: "设备的完成通知里没有这幅图像",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is and whose, when the order was given: what a caller's scope is held against."""

    name: str = ""
    civil_code: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Who ordered."""

    kind: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Order:
    """One order. ``told`` is None until the device said what it uploaded; ``removed`` pictures are gone."""

    id: str
    device_id: str
    place: Place
    by: Person
    ordered_at: datetime
    deadline_at: datetime
    count: int = 1
    interval_s: int = 1
    origin: Origin = Origin.DEVICE
    purpose: str = ""
    state: State = State.WAITING
    told: tuple[str, ...] | None = None
    finished_at: datetime | None = None
    reason: str = ""
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture on disk. ``taken_at`` is what its name says, by the device's clock."""

    id: str
    order_id: str
    device_id: str
    number: int
    file_name: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    received_at: datetime
    taken_at: datetime | None = None
    sender: str = ""
    is_told: bool = False
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed by; an empty filter narrows nothing."""

    device_id: str = ""
    state: State | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """What a device sent: its file's name ("" for none), the SessionID beside it, the bytes, from where."""

    file_name: str
    session_id: str
    data: bytes
    sender: str


def deadline(ordered_at: datetime, count: int, interval_s: int) -> datetime:
    """Until when pictures of an order are taken."""
    return ordered_at + timedelta(seconds=(count - 1) * interval_s) + GRACE


def judge_name(file_name: str, device_id: str, at: datetime) -> tuple[tuple[Issue, ...], datetime | None]:
    """What is wrong with a picture's name, and when it says the picture was taken."""
    name = bare_name(file_name)
    if not name:
        return (Issue.NO_NAME,), None
    try:
        told = parse_snapshot_name(name)
    except RemoteViolation:
        return (Issue.NAME_LAYOUT,), None
    issues = []
    if told.device_id != device_id:
        issues.append(Issue.NAME_DEVICE)
    if told.kind != PICTURE:
        issues.append(Issue.NAME_KIND)
    if abs(at - told.taken_at) > CLOCK_TOLERANCE:
        issues.append(Issue.NAME_TIME)
    return tuple(issues), told.taken_at


def conclude(order: Order, received: int, *, is_overdue: bool) -> tuple[State, str]:
    """How an order stands with so many pictures here, and why in words.

    The device's notification is what ends it; fewer names than pictures ordered say that some failed
    (A.2.5.7). What was told and did not arrive may still be on its way until the deadline.
    """
    told = None if order.told is None else len(order.told)
    if received >= order.count and (told is not None or is_overdue):
        if told is None:
            return State.COMPLETE, "图像已收齐，设备没有发送完成通知"
        if told < order.count:
            return State.PARTIAL, f"图像已收齐，但设备只报告了 {told}/{order.count} 张"
        return State.COMPLETE, ""
    is_awaited = told is None or received < told
    if is_awaited and not is_overdue:
        return State.WAITING, ""
    state = State.PARTIAL if received else State.FAILED
    return state, _shortfall(order.count, told, received)


def _shortfall(count: int, told: int | None, received: int) -> str:
    if told is None:
        return f"到期未收到完成通知，应抓拍 {count} 张，收到 {received} 张"
    if told > received:
        return f"设备报告上传了 {told}/{count} 张，平台只收到 {received} 张"
    return f"设备报告只上传成功 {told}/{count} 张，收到 {received} 张"
