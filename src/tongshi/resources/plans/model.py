"""Plans, their catalogues, and who sees them.

Implements: DB31DSJ/Z 001-2024 Table B.2

Table B.2 mixes two things in one record (quirk Z001-9): PlanCount belongs to the catalogue and DeviceCount to
the plan. Both are counted here and never read from input.

Who sees what: a catalogue is seen by its owner and, as it says, by the owner's organisation or by everybody;
a plan by its owner and, unless it is a draft, by whoever sees its catalogue. An administrator of the platform
sees all. Sharing with single people (row E.4-7) is not built yet and will only add to this.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tongshi.resources.devices.selection import Narrowing

MAX_DEVICES: Final = 2_000  # of a plan
MAX_PLANS: Final = 100_000
MAX_CATALOGUES: Final = 10_000
MAX_LEVEL: Final = 3
MAX_NAME: Final = 64
KEEP_DELETED: Final = timedelta(days=7)


class Visibility(StrEnum):
    """Who sees a catalogue beside its owner."""

    PRIVATE = "private"
    ORGANISATION = "org"
    ALL = "all"


class Status(StrEnum):
    """A draft is its owner's alone. Running plans (row E.4-19) are not built yet."""

    DRAFT = "draft"
    READY = "ready"


class Sort(StrEnum):
    """Order of a list of plans; the code decides among equals."""

    CODE = "PlanCode"
    NAME = "PlanName"
    CREATED = "createTime"
    CREATED_DOWN = "-createTime"
    UPDATED = "updateTime"
    UPDATED_DOWN = "-updateTime"


class Reach(StrEnum):
    """Which catalogues of those that one may see."""

    MINE = "mine"
    ORGANISATION = "org"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: ``key`` is the kind of subject, ":" and its id."""

    key: str
    name: str = ""
    organisation: str = ""
    is_administrator: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One catalogue. ``path`` holds the names from the first level to this one."""

    id: str
    parent_id: str
    path: tuple[str, ...]
    standard_row: int | None = None
    civil_code: str = ""
    is_protected: bool = False
    visibility: Visibility = Visibility.PRIVATE
    owner: str = ""
    organisation: str = ""
    position: int = 0
    revision: int = 1
    updated_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.path[-1]


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan with its devices in order; ``device_ids`` is empty where only the head was read."""

    code: str
    catalogue_id: str
    name: str
    description: str = ""
    status: Status = Status.READY
    owner: str = ""
    owner_name: str = ""
    organisation: str = ""
    device_count: int = 0
    revision: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFilter:
    """What a list of plans is narrowed by; an empty part narrows nothing.

    ``devices`` keeps plans that list such a device, among those that the caller may see.
    """

    keyword: str = ""
    catalogue_id: str = ""
    owner: str = ""
    device_id: str = ""
    status: Status | None = None
    devices: Narrowing | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan as one viewer may know it.

    Attributes:
        plan: with the device ids that the viewer may know of.
        catalogue: its catalogue.
        denied: how many more devices it lists.
        missing: those of ``plan.device_ids`` that are gone from the archive.
        plan_count: plans of the catalogue that the viewer may see.
    """

    plan: Plan
    catalogue: Catalogue
    denied: int
    missing: tuple[str, ...]
    plan_count: int
