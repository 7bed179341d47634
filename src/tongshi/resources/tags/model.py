"""Tag groups, definitions, values, and the tags of devices.

Implements: DB31DSJ/Z 001-2024 Table D.1
Implements: DB31DSJ/Z 001-2024 Table D.2

Table D.2 knows a value by its text alone (quirk Z001-10). A text can be renamed, so that each value has a
code of ours beside it; what a device bears is the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final

from tongshi.resources.devices.selection import Selection

MAX_ENUMS: Final = 5_000  # of a definition
MAX_TAGS_OF_A_DEVICE: Final = 200
MAX_DEVICES: Final = 2_000  # named one by one
MAX_SELECTED: Final = 50_000  # by a selection
KEEP_UNDO: Final = timedelta(hours=24)


class TagSort(IntEnum):
    """标签分类."""

    PLACE = 0
    APPLICATION = 1
    ATTRIBUTE = 2
    PERSONAL = 3


class TagSource(StrEnum):
    """Who or what put a tag on a device."""

    MANUAL = "manual"
    PLAN = "plan"
    IMPORT = "import"
    SYNC = "sync"
    RULE = "rule"


class Mode(StrEnum):
    """What is done with the values that a device has of a definition."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


class OnDevices(StrEnum):
    """What becomes of devices that bear a value that is switched off."""

    KEEP = "keep"
    CLEAR = "clear"
    MOVE = "moveTo"


@dataclass(frozen=True, slots=True)
class Group:
    """标签分组."""

    code: str
    name: str
    sort: TagSort
    position: int = 0
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Define:
    """标签定义. ``is_customised``: its values may be changed; ``is_multiple``: a device may have several."""

    code: str
    group_code: str
    name: str
    sort: TagSort
    position: int = 0
    is_customised: bool = False
    allows_empty: bool = True
    is_multiple: bool = True
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Value:
    """标签枚举: one value of a definition."""

    code: str
    define_code: str
    text: str
    is_enabled: bool = True
    position: int = 0
    revision: int = 1


@dataclass(frozen=True, slots=True)
class DeviceTag:
    """A value that a device bears: from where, by whom, when."""

    device_id: str
    define_code: str
    value_code: str
    source: TagSource
    annotator: str
    at: datetime
    revision: int = 1


@dataclass(frozen=True, slots=True)
class ValueAsked:
    """A value as somebody wants it; an empty code means by its text."""

    code: str
    text: str
    is_enabled: bool = True
    position: int | None = None


@dataclass(frozen=True, slots=True)
class ValuesAsked:
    """Changes of the values of one definition; ``is_whole`` switches off what is not among them."""

    define_code: str
    items: tuple[ValueAsked, ...]
    is_whole: bool = False
    on_devices: OnDevices | None = None
    move_to: str = ""
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that was not saved, and why."""

    text: str
    code: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ValuesSaved:
    """What became of them."""

    saved: list[Value]
    disabled: list[str]
    conflicts: list[Refused]
    revision: int


@dataclass(frozen=True, slots=True)
class Setting:
    """Values of one definition, by code or by text."""

    define_code: str
    codes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is to be done with the tags of some devices: those named, or those of a selection."""

    device_ids: tuple[str, ...] = ()
    selection: Selection | None = None
    expected_count: int = 0
    settings: tuple[Setting, ...] = ()
    unset: tuple[str, ...] = ()
    mode: Mode = Mode.REPLACE
    source: TagSource = TagSource.MANUAL
    is_dry_run: bool = False
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Annotated:
    """What was done. ``failed`` are ``(device id, code)``."""

    matched: int
    changed: int
    unchanged: int
    failed: list[tuple[str, int]] = field(default_factory=list)
    undo_token: str = ""
