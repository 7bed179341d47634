"""A platform's own recordings (中心录像): rules, segments and gaps, without a database.

A segment is one program stream file of some minutes that begins with a key frame. Its times are true UTC, by
this platform's clock when the frames came. A gap is a stretch that a rule asked for and that is not there,
with the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from tongshi.errors import TongshiError
from tongshi.sharing.model import Hours

MAX_RULES: Final = 1_000
MAX_RECORDED_STREAMS: Final = 1_000  # that one platform records at once, whatever its rules say
MAX_SEGMENTS_FOUND: Final = 20_000  # of one search: 31 days in pieces of five minutes are 8,928
MAX_RETENTION_DAYS: Final = 3_650
MAX_KEY_FRAMES: Final = 20_000  # of one segment
_KEY_FRAME = struct.Struct("<QI")


@dataclass(frozen=True, slots=True)
class Rule:
    """What is recorded: one device, or every device of an administrative division.

    Attributes:
        hours: of the day in Beijing time; None is all day.
        retention_days: a segment goes when it is older than this.
        quota_bytes: the oldest go first when this rule's segments are more; 0 is no limit.
    """

    id: str
    device_id: str = ""
    civil_code: str = ""
    stream_type: int = 0
    hours: Hours | None = None
    retention_days: int = 30
    quota_bytes: int = 0
    is_enabled: bool = True
    updated_at: datetime | None = None
    updated_by: str = ""

    def wants(self, at: datetime) -> bool:
        """Whether it asks for recording at that moment."""
        return self.is_enabled and (self.hours is None or self.hours.hold(at))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One stream that is to be recorded now, and the rule that says so."""

    device_id: str
    stream_type: int
    rule: Rule


class SegmentState(StrEnum):
    """How far a segment is. ``repaired``: cut back to its last whole frame after this platform failed."""

    WRITING = "writing"
    WHOLE = "whole"
    REPAIRED = "repaired"
    DELETING = "deleting"


class Storage(StrEnum):
    """Where a segment lies."""

    LOCAL = "local"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """Where one group of pictures begins: byte in the file, milliseconds from the segment's start."""

    offset: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of recording; ``key_frames`` is empty where a list does not need it."""

    id: str
    rule_id: str
    device_id: str
    stream_type: int
    start: datetime
    end: datetime
    expires_at: datetime
    size_bytes: int = 0
    video: str = ""
    audio: str = ""
    digest: str = ""
    state: SegmentState = SegmentState.WRITING
    storage: Storage = Storage.LOCAL
    is_held: bool = False
    held_for: str = ""
    key_frames: tuple[KeyFrame, ...] = ()

    @property
    def length_s(self) -> float:
        return (self.end - self.start).total_seconds()


class GapReason(StrEnum):
    """Why nothing was recorded."""

    OFFLINE = "offline"
    NO_ANSWER = "noAnswer"
    REFUSED = "refused"
    NO_MEDIA = "noMedia"
    BAD_MEDIA = "badMedia"
    MEDIA_LOST = "mediaLost"
    NO_ROOM = "noRoom"
    DISK_FULL = "diskFull"
    STORAGE = "storage"
    TOO_SLOW = "tooSlow"
    STOPPED = "stopped"
    LOST = "lost"
    FAILED = "failed"

    @classmethod
    def of(cls, error: TongshiError) -> GapReason:
        """What a failed opening means, by its number."""
        known = {
            50401: cls.NO_ANSWER,
            50402: cls.NO_MEDIA,
            50403: cls.BAD_MEDIA,
            50301: cls.OFFLINE,
            50302: cls.NO_ROOM,
            42904: cls.NO_ROOM,
            50201: cls.REFUSED,
            40401: cls.OFFLINE,
        }
        return known.get(error.code, cls.FAILED)


GAP_TEXT: Final[dict[GapReason, str]] = {
    GapReason.OFFLINE: "设备不在线",
    GapReason.NO_ANSWER: "设备没有应答",
    GapReason.REFUSED: "设备拒绝了点播",
    GapReason.NO_MEDIA: "设备没有发送媒体",
    GapReason.BAD_MEDIA: "收到的媒体中没有可解码的画面",
    GapReason.MEDIA_LOST: "视频流中断",
    GapReason.NO_ROOM: "平台媒体资源不足",
    GapReason.DISK_FULL: "录像磁盘已满",
    GapReason.STORAGE: "录像文件无法写入",
    GapReason.TOO_SLOW: "写入速度跟不上，丢弃了部分画面",
    GapReason.STOPPED: "平台未运行",
    GapReason.LOST: "录像文件丢失或损坏",
    GapReason.FAILED: "录像失败",
}


@dataclass(frozen=True, slots=True)
class RecordingGap:
    """A stretch that is missing; ``end`` None: it is missing still."""

    id: str
    device_id: str
    stream_type: int
    start: datetime
    end: datetime | None
    reason: GapReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """What own recordings take; ``free_bytes`` None: the storage does not tell."""

    segments: int
    size_bytes: int
    held_bytes: int
    oldest: datetime | None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RuleUse:
    """What one rule's segments take."""

    segments: int = 0
    size_bytes: int = 0
    oldest: datetime | None = None


def pack_key_frames(frames: Iterable[KeyFrame]) -> bytes:
    """For one column: 12 bytes each."""
    return b"".join(_KEY_FRAME.pack(one.offset, one.at_ms) for one in frames)


def unpack_key_frames(data: bytes) -> tuple[KeyFrame, ...]:
    """Read the column; a rest of fewer bytes than one is left out."""
    whole = len(data) - len(data) % _KEY_FRAME.size
    return tuple(KeyFrame(*one) for one in _KEY_FRAME.iter_unpack(data[:whole]))
