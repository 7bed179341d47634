"""What control needs of signalling: a device that can be asked, commanded and configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tongshi.protocols.gb28181.configuration import Configuration
from tongshi.protocols.gb28181.control import DeviceControl
from tongshi.protocols.gb28181.control_parts import HomePosition
from tongshi.protocols.gb28181.device_response import (
    Card,
    CruisePoint,
    CruiseTrack,
    Preset,
    PTZPositionResponse,
)
from tongshi.protocols.gb28181.response import DeviceStatusResponse

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Heard(Generic[E]):
    """A list that a device told: whether it is the whole, and which entries could not be read."""

    entries: tuple[E, ...]
    is_complete: bool
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configured:
    """Configurations that a device told; ``missing`` were asked for and are not among them."""

    settings: Configuration
    missing: tuple[str, ...]
    bad: tuple[str, ...]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class CommandReply:
    """How a command ended: time to the SIP answer, its status, and the device's own answer.

    ``is_done`` is None where the standard has no answer, or the device gave none: then only what is read back
    tells.
    """

    delay_ms: float
    sip_status: int
    is_done: bool | None


class DeviceTalk(Protocol):
    """Toward the device, whichever level it is at.

    Every method raises NotFound or Unavailable (no way to it), Unprocessable (its edition does not know
    this), PeerTimeout (50401), PeerFailed (50201), LimitExceeded.
    """

    async def presets(self, device_id: str) -> Heard[Preset]: ...
    async def home_position(self, device_id: str) -> HomePosition | None: ...
    async def cruise_tracks(self, device_id: str) -> Heard[CruiseTrack]: ...

    async def cruise_track(self, device_id: str, number: int) -> tuple[str, Heard[CruisePoint]]:
        """Its name and its stops."""
        ...

    async def position(self, device_id: str) -> PTZPositionResponse: ...
    async def cards(self, device_id: str) -> Heard[Card]: ...
    async def configuration(self, device_id: str, config_types: tuple[str, ...]) -> Configured: ...
    async def status(self, device_id: str, timeout_s: float) -> DeviceStatusResponse: ...
    async def command(self, device_id: str, make: Callable[[int], DeviceControl]) -> CommandReply: ...
    async def configure(self, device_id: str, settings: Configuration) -> CommandReply: ...
