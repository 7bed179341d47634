"""What viewing needs of others: signalling that reaches a camera, an engine, the archive, one decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tongshi.errors import NotFound
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.mansrtsp import Command, Reply
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.model import (
    Codec,
    Coding,
    Delivery,
    FileFormat,
    Quality,
    SoundOfFile,
    StreamType,
    Transcoding,
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
class IngestFigures:
    """What arrived so far; ``silent_s`` is the time since the last packet, None before the first.

    ``is_known`` False: who would know did not answer, and the rest says nothing.
    """

    packets: int
    malformed: int
    foreign_ssrc: int
    lost: int
    silent_s: float | None
    codec: Codec
    quality: Quality | None = None  # of a node that tells it
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Promise:
    """What an answer says of the media to come: its SSRC, whence it comes, what payload types mean."""

    ssrc: int | None
    host: str = ""
    port: int = 0
    payload_types: tuple[RtpMap, ...] = ()


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP sockets for a viewer's packets, each connected to his port, the engine's once they are handed over.

    ``pairs``: the channel of a track's RTP, and the descriptors of its RTP and RTCP. Who says nothing for
    ``silence_s``, by them or by his connection, is gone.
    """

    pairs: tuple[tuple[int, int, int], ...] = ()
    silence_s: float = 60.0

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(one for _, *two in self.pairs for one in two)


class Ingest(Protocol):
    """One open receiving end inside the engine."""

    host: str
    port: int
    first_packet: asyncio.Event
    first_key_frame: asyncio.Event
    ended: asyncio.Event  # the media connection closed, or the engine gave the stream up

    @property
    def lost_with_node(self) -> str:
        """The media node that was lost with this stream, "" when ``ended`` has another reason."""
        ...

    def viewer_url(self, delivery: Delivery, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        """Where a viewer fetches it when its node serves viewers itself; None for the platform's listener.

        Raises:
            Unprocessable: the node does not serve this delivery, or not the sound without the picture.
        """
        ...

    async def announce(self, ssrc: int) -> None:
        """An offer names this SSRC; what comes under it is this stream's, also before the answer."""
        ...

    async def expect(self, promise: Promise) -> None:
        """Take only the promised SSRC from now on; without one the first seen that can be this stream's."""
        ...

    async def connect(self, host: str, port: int) -> None:
        """tcp-active: connect to the sender."""
        ...

    async def figures(self) -> IngestFigures: ...

    async def group_of_pictures(self) -> bytes:
        """The last pictures from a key frame on, Annex B; empty when there are none.

        Raises:
            Unprocessable: the node that carries the stream does not give them.
        """
        ...

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Callable[[str], None],
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        """Serve one viewer on a connected socket, which belongs to the engine from here on, also on error.

        ``dialogue`` "" writes the container's bytes as they are, "websocket" each tag as one message, "rtsp"
        answers what an RTSP client asks, whose packets go by ``datagrams`` when there are any.
        """
        ...

    async def detach(self, viewer: int) -> int:
        """End one viewer; bytes sent to it, 0 when it was gone already."""
        ...

    async def relay(
        self, transport: Transport, host: str, port: int, ssrc: int, on_closed: Callable[[str], None]
    ) -> tuple[int, int]:
        """Relay to another platform; (relay id, local port)."""
        ...

    async def drop_relay(self, relay: int) -> None: ...

    async def close(self) -> None:
        """Close with its viewers and relays; idempotent."""
        ...


@runtime_checkable
class Numbering(Protocol):
    """A receiving end that knows how its relays number what they pass on. RTP times pass unchanged."""

    async def numbers(self, relay: int) -> tuple[int, int] | None:
        """(Next sequence number of the relay, the sender's that gets it); None while nothing is passed on."""
        ...


@runtime_checkable
class Holding(Protocol):
    """A receiving end that can hold pictures back. Times are of the stream's own clock, 90 kHz."""

    async def hold(self) -> int | None:
        """Hold pictures back from now on; the time of the last one shown, None before the first."""
        ...

    async def step(self) -> int | None:
        """Show the next one that is held; its time, None when there is none."""
        ...

    async def let_go(self, *, forget: bool) -> None:
        """Hold nothing back any more; what is held is shown, or forgotten: then a key frame goes first."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A receiving end whose engine serves browsers by WebRTC."""

    async def answer(self, offer: str, on_closed: Callable[[str], None]) -> tuple[int, str]:
        """Answer a browser's SDP offer and serve it: (viewer, answer); ``detach`` ends it as any other.

        Raises:
            InvalidRequest: it is no offer that can be used (40001).
            Unprocessable: the browser cannot take this stream so; the words say what else it may (42203).
        """
        ...


@runtime_checkable
class Wishing(Protocol):
    """A receiving end whose engine knows when a viewer needs a key frame."""

    def on_key_frame_wanted(self, tell: Callable[[str], None]) -> None:
        """Whom to tell: "asked" by a browser, "dark" when who joined found none and none came."""
        ...


@dataclass(frozen=True, slots=True)
class ReadingFigures:
    """What became of a viewer: frames left out because he was slow, and bytes that wait for him."""

    skipped: int
    queued_bytes: int


@runtime_checkable
class Reading(Protocol):
    """A receiving end that knows how its viewers keep up."""

    async def reading(self, viewer: int) -> ReadingFigures | None:
        """Of one viewer of ``attach``; None when he is gone."""
        ...


class Spool(Protocol):
    """A file that a fetched recording is written to.

    ``size`` is bytes so far, ``media_s`` the seconds of recording they hold; ``done`` is set when nothing
    more comes, and only then ``is_complete`` says whether everything came.
    """

    size: int
    is_complete: bool
    done: asyncio.Event

    @property
    def media_s(self) -> float: ...

    @property
    def sound(self) -> SoundOfFile: ...

    async def begin(self, ingest: Ingest) -> None:
        """Take everything that arrives from now on; nothing can be read before ``give_sound``."""
        ...

    async def give_sound(self, codec: str, transcoder: Transcoder | None, tell: Tell) -> None:
        """Say what the sound is, "" for none: what the file cannot hold is coded anew, or left out.

        ``tell`` is told when sound that was begun breaks off. Never raises.
        """
        ...

    def sender_finished(self) -> None:
        """The device said that it has sent everything: what is here at the end is whole."""
        ...

    def read(self) -> AsyncIterator[bytes]:
        """The file from its beginning, waiting for what is still to come.

        Raises:
            PeerFailed: it ended before it was whole.
        """
        ...

    async def discard(self) -> None:
        """End it and delete the file; idempotent."""
        ...


class Spools(Protocol):
    """Makes files for downloads."""

    def make(self, name: str, file_format: FileFormat = FileFormat.MP4) -> Spool:
        """A new one. Raises LimitExceeded: too many at once (42904)."""
        ...


Tell = Callable[[str], None]


class SoundCoding(Protocol):
    """The sound of one file being coded anew; ``reason`` says why it ended by itself, "" when it was done."""

    rate_hz: int
    ended: asyncio.Event
    reason: str

    def feed(self, data: bytes) -> None:
        """More FLV of our engine; never waits."""
        ...

    def finish(self) -> None:
        """No more comes; it ends when all is coded."""
        ...

    async def end(self) -> None:
        """End it now and give its place back; idempotent, bounded, never raises."""
        ...


class TranscodingJob(Protocol):
    """One stream being coded anew; ``reason`` says why it ended by itself."""

    ended: asyncio.Event
    reason: str

    async def figures(self) -> Coding:
        """How it stands now; never raises."""
        ...

    async def end(self) -> None:
        """End it; idempotent, bounded, never raises."""
        ...


class Transcoder(Protocol):
    """Codes streams anew, a bounded number at once."""

    def check(self, source: Codec, wish: Transcoding) -> None:
        """Whether one more may begin, of this stream.

        Raises:
            Unprocessable: none are possible here, or not of so large a picture (42203).
            Unavailable: all are taken (50302).
        """
        ...

    async def begin(
        self, source: Ingest, codec: Codec, wish: Transcoding, host: str, port: int, ssrc: int
    ) -> TranscodingJob:
        """Feed a stream to a process that sends it, coded anew, to us by TCP; see ``check``."""
        ...

    async def begin_sound(self, codec: str, take: Callable[[int, bytes], None]) -> SoundCoding:
        """Code sound as AAC of one channel for a file; ``take`` gets time in samples and bytes of each frame.

        Raises:
            Unprocessable: not possible here (42203). Unavailable: all are taken (50302).
        """
        ...

    async def still(self, gop: bytes, codec: str) -> bytes:
        """The last picture of a group as JPEG.

        Raises:
            Unprocessable: cannot be decoded here (42203). Unavailable: too many at once (50302).
            PeerFailed: nothing in it can be decoded (50201).
        """
        ...


class MediaEngine(Protocol):
    """Opens receiving ends."""

    async def open(
        self, stream: str, transport: Transport, device_id: str = "", *, is_local: bool = False
    ) -> Ingest:
        """Bind and listen.

        Args:
            device_id: whose picture it will be; a node near to it is taken where there are several.
            is_local: what arrives is written by this process, so that its own engine must take it.

        Raises:
            Unavailable: no port or no room (50302).
        """
        ...


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
