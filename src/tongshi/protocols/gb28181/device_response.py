"""What a device answers about its settings, and whether it took a configuration.

Implements: GB/T 28181-2022 A.2.6.8
Implements: GB/T 28181-2022 A.2.6.9
Implements: GB/T 28181-2022 A.2.6.10
Implements: GB/T 28181-2022 A.2.6.12
Implements: GB/T 28181-2022 A.2.6.13
Implements: GB/T 28181-2022 A.2.6.14
Implements: GB/T 28181-2022 A.2.6.15
Implements: GB/T 28181-2022 A.2.6.16
Most of these have no Result in the schema; ERROR is written and read all the same, because an empty answer
cannot be told from one that is not supported (24 no. 13). ``bad`` names what could not be used.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar, Final, Self

import msgspec
from msgspec import Meta

from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.configuration import Configuration
from tongshi.protocols.gb28181.control_parts import HomePosition
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_flag, read_sn
from tongshi.protocols.gb28181.shape import Part, Shaped, read_fields, render_fields
from tongshi.protocols.gb28181.version import Edition

MAX_CARDS: Final = 8
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Degrees = Annotated[float, Meta(ge=-3_600.0, le=3_600.0)]


class Preset(Part, frozen=True, kw_only=True):
    """One preset; both are text by the schema."""

    NAMES: ClassVar[dict[str, str]] = {"preset_id": "PresetID", "name": "PresetName"}

    preset_id: Annotated[str, Meta(min_length=1, max_length=32)]
    name: Annotated[str, Meta(max_length=255)] = ""


class PresetResponse(Shaped, frozen=True, kw_only=True):
    """Presets. ``sum_num`` counts the whole answer; None where older devices tell none."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "PresetQuery"
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"presets": ("PresetList", "Item")}

    result_ok: bool = True
    sum_num: Count | None = None
    presets: tuple[Preset, ...] = ()
    bad: tuple[str, ...] = ()


class HomePositionResponse(Shaped, frozen=True, kw_only=True):
    """The home position; None when the device tells none."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "HomePositionQuery"

    result_ok: bool = True
    home_position: HomePosition | None = None
    bad: tuple[str, ...] = ()


class CruiseTrack(Part, frozen=True, kw_only=True):
    """A cruise by its number, the first is 0."""

    number: Annotated[int, Meta(ge=0, le=255)]
    name: Annotated[str, Meta(max_length=64)] = ""


class CruiseTrackListResponse(Shaped, frozen=True, kw_only=True):
    """The cruises of a camera."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "CruiseTrackListQuery"
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"tracks": ("CruiseTrackList", "CruiseTrack")}

    result_ok: bool = True
    sum_num: Count | None = None
    tracks: tuple[CruiseTrack, ...] = ()
    bad: tuple[str, ...] = ()


class CruisePoint(Part, frozen=True, kw_only=True):
    """One stop of a cruise: seconds of stay, and speed 1 to 15."""

    preset_index: Annotated[int, Meta(ge=0, le=255)]
    stay_time: Annotated[int, Meta(ge=0, le=86_400)]
    speed: Annotated[int, Meta(ge=1, le=15)]


class CruiseTrackResponse(Shaped, frozen=True, kw_only=True):
    """One cruise with its stops."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "CruiseTrackQuery"
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"points": ("CruisePointList", "CruisePoint")}

    result_ok: bool = True
    number: Annotated[int, Meta(ge=0, le=255)] | None = None
    name: Annotated[str, Meta(max_length=64)] = ""
    sum_num: Count | None = None
    points: tuple[CruisePoint, ...] = ()
    bad: tuple[str, ...] = ()


class PTZPositionResponse(Shaped, frozen=True, kw_only=True):
    """Where the head looks: degrees, zoom in times, distance in metres."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "PTZPosition"

    result_ok: bool = True
    pan: Degrees | None = None
    tilt: Degrees | None = None
    zoom: Annotated[float, Meta(ge=0.0, le=10_000.0)] | None = None
    horizontal_field_angle: Annotated[float, Meta(ge=0.0, le=360.0)] | None = None
    vertical_field_angle: Annotated[float, Meta(ge=0.0, le=360.0)] | None = None
    max_view_distance: Annotated[float, Meta(ge=0.0, le=1_000_000.0)] | None = None
    reason: Annotated[str, Meta(max_length=255)] = ""
    bad: tuple[str, ...] = ()


class CardState(Enum):
    """State of a memory card."""

    OK = "ok"
    FORMATTING = "formatting"
    UNFORMATTED = "unformatted"
    IDLE = "idle"
    ERROR = "error"


class Card(Part, frozen=True, kw_only=True):
    """One memory card: sizes in MB, progress of formatting in percent."""

    NAMES: ClassVar[dict[str, str]] = {"number": "ID", "name": "HddName", "state": "Status"}

    number: Annotated[int, Meta(ge=1, le=255)]
    name: Annotated[str, Meta(max_length=255)] = ""
    state: CardState
    format_progress: Annotated[int, Meta(ge=0, le=100)] | None = None
    capacity: Annotated[int, Meta(ge=0)] | None = None
    free_space: Annotated[int, Meta(ge=0)] | None = None


class SDCardStatusResponse(Shaped, frozen=True, kw_only=True):
    """The memory cards of a device, at most eight."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "SDCardStatus"
    LISTS: ClassVar[dict[str, tuple[str, str]]] = {"cards": ("SDCardStatusInfo", "Item")}

    result_ok: bool = True
    sum_num: Count | None = None
    cards: Annotated[tuple[Card, ...], Meta(max_length=MAX_CARDS)] = ()
    bad: tuple[str, ...] = ()


class DeviceConfigResponse(Shaped, frozen=True, kw_only=True):
    """Whether a configuration was taken; every one is answered."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "DeviceConfig"
    RESULT_IN_SCHEMA: ClassVar[bool] = True

    result_ok: bool = True


class ConfigDownloadResponse(BaseMessage, frozen=True, kw_only=True):
    """Configurations, one or several of those asked for; the others may follow with the same SN."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "ConfigDownload"

    result_ok: bool = True
    settings: Configuration = Configuration()
    bad: tuple[str, ...] = ()

    def content(self, edition: Edition) -> str:
        return xml.element("Result", "OK" if self.result_ok else "ERROR") + render_fields(self.settings)

    @classmethod
    def read(cls, document: xml.Document) -> Self:
        reader = document.root
        bad: list[str] = []
        found = read_fields(Configuration, reader, bad)
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            result_ok=not read_flag(reader.text("result"), "error", "err", "fail", "failed"),
            settings=msgspec.convert(found, Configuration, strict=False),
            bad=tuple(bad),
        )
