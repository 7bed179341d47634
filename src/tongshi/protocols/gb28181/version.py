"""Protocol version of a peer and what may be sent to it.

Implements: GB/T 28181-2022 Annex I

After registration the side with the higher version avoids what the lower side cannot recognise. An absent or
unreadable X-GB-Ver means 2.0 (24 no. 28).
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum
from typing import Final

_VERSION = re.compile(r"\s*([0-9]{1,3})\.([0-9]{1,3})\s*\Z", re.ASCII)


class Edition(IntEnum):
    """Editions in order of time; the value is ten times the number on the wire."""

    GB2011 = 10
    GB2014 = 11
    GB2016 = 20
    GB2022 = 30

    @property
    def wire(self) -> str:
        """The value of X-GB-Ver."""
        return f"{self // 10}.{self % 10}"


OWN_EDITION: Final = Edition.GB2022


class Feature(Enum):
    """What not every edition knows; the value is the element, command or rule."""

    HOME_POSITION = "HomePosition"
    DRAG_ZOOM = "DragZoom"
    CONFIG_DOWNLOAD = "ConfigDownload"
    MOBILE_POSITION = "MobilePosition"
    DOWNLOAD_SPEED = "downloadspeed"
    KEY_FRAME = "IFrameCmd"
    MOBILE_POSITION_LIST = "MobilePosition list"
    HOME_POSITION_QUERY = "HomePositionQuery"
    CRUISE_TRACK_QUERY = "CruiseTrackQuery"
    PTZ_POSITION = "PTZPosition"
    SD_CARD_STATUS = "SDCardStatus"
    PTZ_PRECISE_CONTROL = "PTZPreciseCtrl"
    FORMAT_SD_CARD = "FormatSDCard"
    TARGET_TRACK = "TargetTrack"
    DEVICE_UPGRADE = "DeviceUpgrade"
    SNAPSHOT = "SnapShotConfig"
    STREAM_NUMBER = "streamnumber"
    AAC = "AAC"
    REDIRECT = "302"
    GB18030_PROLOG = "GB18030"


_SINCE_2014: Final = frozenset(
    {
        Feature.HOME_POSITION,
        Feature.DRAG_ZOOM,
        Feature.CONFIG_DOWNLOAD,
        Feature.MOBILE_POSITION,
        Feature.DOWNLOAD_SPEED,
        Feature.KEY_FRAME,
    }
)


def parse_version(header: str | None) -> Edition:
    """Read X-GB-Ver: the newest edition that is not newer than the peer says."""
    match = _VERSION.match(header or "")
    if match is None:
        return Edition.GB2016
    number = int(match.group(1)) * 10 + min(int(match.group(2)), 9)
    return max((edition for edition in Edition if edition <= number), default=Edition.GB2011)


def supports(edition: Edition, feature: Feature) -> bool:
    """Whether a peer of this edition recognises the feature (dossier 2.4)."""
    return edition >= (Edition.GB2014 if feature in _SINCE_2014 else Edition.GB2022)
