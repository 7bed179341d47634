"""What viewing needs of others: signalling that reaches a camera, the archive, one decision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tongshi.errors import NotFound
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.mansrtsp import Command, Reply
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.model import (
    StreamType,
    Transport,
)
from tongshi.resources.viewing.recordings import Found, Search, Window
from tongshi.sharing.model import Subject
from tongshi.sharing.permissions import Permission


@dataclass(frozen=True, slots=True)
class Route:
    """How a device is reached now. ``transport`` is never ``auto``."""

    peer_id: str
    transport: Transport
    is_platform: bool = False


async def _untold(ssrc: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """Where we receive; the signalling side adds SSRC, Subject and the rest.

    ``announce`` is told the SSRC of each offer before it is sent: media may come before the answer is read.
    """

    device_id: DeviceId
    stream_type: StreamType
    transport: Transport
    host: str
    port: int
    stream_id: str
    announce: Callable[[int], Awaitable[None]] = field(default=_untold, kw_only=True)


@dataclass(frozen=True, slots=True)
class HistoryRequest(LiveRequest):
    """Where we receive a recording, and what of it; ``download_speed`` None plays it back."""

    window: Window
    download_speed: int | None = None


class LiveCall(Protocol):
    """An answered call toward a device or a lower platform."""

    ssrc: int | None
    media_host: str
    media_port: int
    payload_types: tuple[RtpMap, ...]
    ended: asyncio.Event

    async def end(self) -> None:
        """Say BYE and give back what the call held. Idempotent, bounded, never raises."""
        ...


class HistoryCall(LiveCall, Protocol):
    """An answered call for a recording. ``finished``: its sender said that the end was reached."""

    finished: asyncio.Event
    file_size: int | None

    async def steer(self, command: Command) -> Reply:
        """Send one MANSRTSP request and read its answer.

        Raises:
            PeerTimeout: no answer (50401). Unavailable: the call is over.
            PeerFailed: refused by SIP (50201, details ``sipStatus``).
        """
        ...


@runtime_checkable
class Stepping(Protocol):
    """A call whose sender shows single pictures itself."""

    async def step(self) -> float:
        """Show the next picture and stand; where it is, seconds from the start of the recording.

        Raises:
            Unprocessable: it cannot (42203, details ``supported``).
        """
        ...


@dataclass(frozen=True, slots=True)
class ControlReply:
    """The SIP answer to a control command and how long it took (DB31DSJ/Z 001-2024 Table C.1 row 6).

    ``is_done`` is the device's own answer where the command has one.
    """

    delay_ms: float
    sip_status: int
    is_done: bool | None = None


class Signalling(Protocol):
    """Toward the device, whichever level it is at."""

    async def route(self, device_id: DeviceId) -> Route:
        """Find the peer to ask.

        Raises:
            NotFound: nobody ever told us of this device.
            Unavailable: known, and it or its platform is offline (50301).
        """
        ...

    async def open_live(self, request: LiveRequest, timeout_s: float) -> LiveCall:
        """Call the device.

        Raises:
            PeerTimeout: no final answer in time (50401).
            PeerFailed: refused (50201, details ``sipStatus``).
            Unavailable: offline, or no SSRC left.
        """
        ...

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> HistoryCall:
        """Call the device for a recording; same errors as ``open_live``."""
        ...

    async def control(self, device_id: DeviceId, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        """Send one front-end instruction of 16 hex digits; same errors as ``open_live``."""
        ...

    async def ask_key_frame(self, device_id: DeviceId) -> None:
        """Have a live picture's next frame be a key frame; same errors as ``open_live``."""
        ...


class Recordings(Protocol):
    """Asks a device, or the platform before it, what it has recorded."""

    async def search(self, search: Search) -> Found:
        """All of a window, day by day.

        Raises:
            NotFound, Unavailable: as ``Signalling.route``. PeerTimeout: no answer at all (50401).
            PeerFailed: refused (50201).
        """
        ...


class Centre(Protocol):
    """What this platform recorded itself (中心录像)."""

    async def search(self, search: Search) -> Found:
        """What there is within a window; nothing is no error."""
        ...

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> HistoryCall:
        """Play it into the receiving end named.

        Raises:
            NotFound: nothing was recorded then (40405).
        """
        ...


class NoCentre:
    """A platform that records nothing itself."""

    async def search(self, search: Search) -> Found:
        return Found(())

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> HistoryCall:
        raise NotFound("本平台没有该时段的录像", code=40405)


@dataclass(frozen=True, slots=True)
class DeviceFact:
    """What a decision and a control command must know of a device; ``is_controllable`` None is untold."""

    civil_code: str
    owner: str
    is_controllable: bool | None = None


class DeviceFacts(Protocol):
    """The archive, as far as viewing asks it."""

    async def fact(self, device_id: str) -> DeviceFact | None:
        """None when the device is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks and from where; ``client_host`` is the numeric address the picture's URL is bound to."""

    subject: Subject
    client_host: str
    request_id: str = ""

    @property
    def key(self) -> str:
        """The same person has the same key on every call."""
        return f"{self.subject.kind}:{self.subject.id}"


class Timeline(Protocol):
    """Where the steps of a picture are kept beside the messages that they brought about."""

    def begin(self, device_id: str, title: str, /) -> str:
        """Begin the timeline of a viewing; what this task and its tasks cause belongs to it. Its number."""
        ...

    def current(self) -> str:
        """The timeline that this task belongs to, "" for none."""
        ...

    def note(self, trace_id: str, step: str, text: str = "", /, *, is_trouble: bool = False) -> None:
        """Note a step; nothing happens when the timeline is no longer kept."""
        ...

    def link(self, one: str, other: str, /) -> None:
        """Two timelines that belong together."""
        ...


class NoTimeline:
    """Keeps nothing: for who has no signalling to tell of."""

    def begin(self, device_id: str, title: str, /) -> str:
        return ""

    def current(self) -> str:
        return ""

    def note(self, trace_id: str, step: str, text: str = "", /, *, is_trouble: bool = False) -> None:
        return

    def link(self, one: str, other: str, /) -> None:
        return


class Guard(Protocol):
    """The one access decision, written to the audit chain before it is returned."""

    async def admit(self, viewer: Viewer, action: Permission, device_id: DeviceId, purpose: str) -> str:
        """Decide and record. Returns the number of the grant that allowed it, "" when the role did.

        Raises:
            NotFound: unknown or not permitted, which look the same (40401).
            Forbidden: may see the device and still not do this.
        """
        ...

    async def is_valid(self, grant: str) -> bool:
        """Whether a grant that allowed something running is still in force."""
        ...
