"""The name of a snapshot's file: 41 digits of device, kind, time and serial number.

Implements: GB/T 28181-2022 9.14.1
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tongshi.clock import BEIJING
from tongshi.errors import RemoteViolation

PICTURE: Final = "02"

_LAYOUT = re.compile(r"([0-9]{20})([0-9]{2})([0-9]{17})([0-9]{2})\Z", re.ASCII)
_ENDING = re.compile(r"\.(jpg|jpeg)\Z", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """What a name tells. ``taken_at`` is the device's local time, Beijing's."""

    device_id: str
    kind: str
    taken_at: datetime
    serial: int

    def __str__(self) -> str:
        at = self.taken_at.astimezone(BEIJING)
        thousandth = at.microsecond // 1000
        return f"{self.device_id}{self.kind}{at:%Y%m%d%H%M%S}{thousandth:03d}{self.serial:02d}"


def bare_name(file_name: str) -> str:
    """A file's name without folders and without its ending."""
    return _ENDING.sub("", re.split(r"[/\\]", file_name.strip())[-1])


def parse_snapshot_name(name: str) -> SnapshotName:
    """Read a bare name.

    Raises:
        RemoteViolation: not 41 digits, or no time that there is.
    """
    found = _LAYOUT.match(name)
    if found is None:
        raise RemoteViolation("文件名不是 41 位数字")
    device_id, kind, time, serial = found.groups()
    try:
        taken_at = datetime.strptime(time[:14], "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
    except ValueError as error:
        raise RemoteViolation("文件名中的时间不合法") from error
    return SnapshotName(device_id, kind, taken_at + timedelta(milliseconds=int(time[14:])), int(serial))
