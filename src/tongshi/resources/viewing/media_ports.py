"""What viewing needs of media: an engine and its nodes, files of downloads, coding anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.model import (
    Codec,
    Coding,
    Delivery,
    FileFormat,
    Quality,
    SoundOfFile,
    Transcoding,
    Transport,
)


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
