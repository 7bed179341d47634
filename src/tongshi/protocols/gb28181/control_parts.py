"""The complex elements of control commands.

Implements: GB/T 28181-2022 A.2.1.11
Implements: GB/T 28181-2022 A.2.3.1.8
Implements: GB/T 28181-2022 A.2.3.1.10
Implements: GB/T 28181-2022 A.2.3.1.12
Implements: GB/T 28181-2022 A.2.3.1.14
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from tongshi.protocols.gb28181.configuration import SessionId
from tongshi.protocols.gb28181.shape import Part

Extent = Annotated[int, Meta(ge=1, le=65_535)]
Place = Annotated[int, Meta(ge=0, le=65_535)]


class DragBox(Part, frozen=True, kw_only=True):
    """A box in a window, pixels, origin upper left: the window's size, the box's centre and size."""

    NAMES: ClassVar[dict[str, str]] = {
        "mid_point_x": "MidPointX",
        "mid_point_y": "MidPointY",
        "length_x": "LengthX",
        "length_y": "LengthY",
    }

    length: Extent
    width: Extent
    mid_point_x: Place
    mid_point_y: Place
    length_x: Extent
    length_y: Extent


class HomePosition(Part, frozen=True, kw_only=True):
    """Return to a preset after so many seconds without control."""

    enabled: bool
    reset_time: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    preset_index: Annotated[int, Meta(ge=0, le=255)] | None = None


class PreciseView(Part, frozen=True, kw_only=True):
    """Where to look: degrees and times. Beyond its limit a device goes to the limit (A.2.1.11)."""

    pan: Annotated[float, Meta(ge=0.0, le=360.0)] | None = None
    tilt: Annotated[float, Meta(ge=-180.0, le=180.0)] | None = None
    zoom: Annotated[float, Meta(ge=0.0, le=10_000.0)] | None = None


class UpgradeOrder(Part, frozen=True, kw_only=True):
    """New software: its version, where to fetch it, for whose devices, and the number of the undertaking."""

    NAMES: ClassVar[dict[str, str]] = {"file_url": "FileURL", "session_id": "SessionID"}

    firmware: Annotated[str, Meta(min_length=1, max_length=255)]
    file_url: Annotated[str, Meta(min_length=1, max_length=1024)]
    manufacturer: Annotated[str, Meta(min_length=1, max_length=255)]
    session_id: SessionId
