"""What a rule is, what it looks at, and the issue that it makes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

import msgspec

from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes

Severity = Literal["error", "warning", "info"]

CAMERA_TYPES: Final = frozenset({"131", "132"})
SNAPSHOT_TYPES: Final = frozenset({"119", "121"})  # devices that take pictures and give no video
MOBILE_TYPE: Final = "138"


class Issue(msgspec.Struct, frozen=True):
    """A rule of the standard that an archive does not keep; ``message`` is for people, in Chinese."""

    rule: str
    field: str
    severity: Severity
    message: str = ""


class Facts:
    """One archive as the rules see it. ``at`` is the moment of the check."""

    def __init__(self, archive: DeviceArchive, at: datetime) -> None:
        self.archive: Final = archive
        self.item: Final[CatalogItem] = archive.item
        self.ext: Final[ExtendedAttributes] = archive.ext
        self.at: Final = at
        code = archive.item.device_id
        self.is_coded: Final = len(code) == 20 and code.isascii() and code.isdigit()
        self.type_code: Final = code[10:13] if self.is_coded else ""
        self.is_camera: Final = self.type_code in CAMERA_TYPES
        self.is_first_class: Final = archive.item.point_type == 1

    @cached_property
    def is_mobile(self) -> bool:
        return self.type_code == MOBILE_TYPE or self.item.mobile_device_type is not None

    @cached_property
    def parent_types(self) -> frozenset[str]:
        return frozenset(p[10:13] for p in self.item.parent_ids if len(p) == 20)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes:
        number: GB-, A1- or X- and a number that is never used twice; it is stored and shown.
        clause: where the rule stands, or why we have it.
        field: as the standard spells it.
        applies: to which devices it speaks; a rule that does not apply is kept.
        holds: whether the archive keeps it.
        message: what is wrong, in Chinese.
    """

    number: str
    clause: str
    field: str
    severity: Severity
    applies: Callable[[Facts], object]
    holds: Callable[[Facts], object]
    message: str

    def issue(self) -> Issue:
        return Issue(self.number, self.field, self.severity, self.message)


def always(_: Facts) -> bool:
    """Applies to every device."""
    return True


def is_camera(facts: Facts) -> bool:
    """Types 131 and 132."""
    return facts.is_camera


def is_first_class(facts: Facts) -> bool:
    """Class-1 monitoring point (一类视频监控点)."""
    return facts.is_first_class


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def matches(pattern: str) -> Callable[[str], bool]:
    """A test of the whole text, ASCII digits only."""
    found = re.compile(rf"(?:{pattern})\Z", re.ASCII)
    return lambda text: found.match(text) is not None
