"""Queries about what a device is set to: configuration, presets, home position, cruises, head, cards.

Implements: GB/T 28181-2022 A.2.4.7
Implements: GB/T 28181-2022 A.2.4.8
Implements: GB/T 28181-2022 A.2.4.10
Implements: GB/T 28181-2022 A.2.4.11
Implements: GB/T 28181-2022 A.2.4.12
Implements: GB/T 28181-2022 A.2.4.13
Implements: GB/T 28181-2022 A.2.4.14
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from msgspec import Meta

from tongshi.protocols.gb28181.configuration import CONFIG_TYPES, config_edition
from tongshi.protocols.gb28181.message import Root
from tongshi.protocols.gb28181.shape import Shaped
from tongshi.protocols.gb28181.version import Edition

MAX_TRACK: Final = 255  # a cruise group of the front-end instructions


class ConfigDownloadQuery(Shaped, frozen=True, kw_only=True):
    """Ask for configurations by their names, one or several."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "ConfigDownload"
    NAMES: ClassVar[dict[str, str]] = {"config_types": "ConfigType"}

    config_types: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]

    @property
    def known_types(self) -> tuple[str, ...]:
        """Those of the twelve that are asked for, spelled as the standard does, each once."""
        asked = {name.lower() for name in self.config_types}
        if "snapshot" in asked:  # as A.2.6.9 prints it
            asked.add("snapshotconfig")
        return tuple(name for name in CONFIG_TYPES if name.lower() in asked)


class PresetQuery(Shaped, frozen=True, kw_only=True):
    """Ask for the presets of a camera."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "PresetQuery"


class HomePositionQuery(Shaped, frozen=True, kw_only=True):
    """Ask where a camera returns to by itself."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "HomePositionQuery"


class CruiseTrackListQuery(Shaped, frozen=True, kw_only=True):
    """Ask for the cruises of a camera."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "CruiseTrackListQuery"


class CruiseTrackQuery(Shaped, frozen=True, kw_only=True):
    """Ask for one cruise; the first is 0 and is the group of the front-end instructions."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "CruiseTrackQuery"

    number: Annotated[int, Meta(ge=0, le=MAX_TRACK)]


class PTZPositionQuery(Shaped, frozen=True, kw_only=True):
    """Ask where the head looks, in degrees."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "PTZPosition"


class SDCardStatusQuery(Shaped, frozen=True, kw_only=True):
    """Ask for the memory cards of a device."""

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "SDCardStatus"


DeviceQuery = (
    ConfigDownloadQuery
    | PresetQuery
    | HomePositionQuery
    | CruiseTrackListQuery
    | CruiseTrackQuery
    | PTZPositionQuery
    | SDCardStatusQuery
)
_SINCE_2014: Final = (ConfigDownloadQuery, PresetQuery)


def query_edition(query: DeviceQuery) -> Edition:
    """The first edition whose peers can be asked this."""
    if isinstance(query, ConfigDownloadQuery):
        return max((config_edition(name) for name in query.known_types), default=Edition.GB2014)
    return Edition.GB2014 if isinstance(query, _SINCE_2014) else Edition.GB2022
