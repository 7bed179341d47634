"""One stream that a ZLMediaKit receives, behind the port that viewing names.

What the server tells by its hooks becomes the events of the stream: published is the first packet, a
registered stream is the first key frame, because the server registers a stream when its tracks are known.
Viewers go to the server themselves; what must pass through this process (own recording, transcoding) comes
through a copy (``local_copy``), whose readers have negative numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from tongshi.errors import TongshiError, Unprocessable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.local_copy import LocalCopy
from tongshi.gateways.media.nodes.zlmediakit.client import Client, Done, Media, MediaList, SendingPort
from tongshi.resources.viewing.media_ports import Datagrams, IngestFigures, Promise, ReadingFigures
from tongshi.resources.viewing.model import Codec, Delivery, Transport

log = structlog.get_logger(__name__)

APP = "rtp"
VHOST = "__defaultVhost__"

_CODECS = {"H264": "h264", "H265": "h265", "PCMA": "g711a", "PCMU": "g711u", "mpeg4-generic": "aac"}
_PATHS = {
    Delivery.HTTP_FLV: ".live.flv",
    Delivery.WS_FLV: ".live.flv",
    Delivery.HTTP_FMP4: ".live.mp4",
    Delivery.WS_FMP4: ".live.mp4",
}

Closed = Callable[[str], None]


class Holder(Protocol):
    """The node as its streams need it."""

    client: Client
    viewer_url: str

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def forget(self, stream: str) -> None:
        """The stream is closed."""
        ...


class ZlmIngest:
    """One receiving end at the server."""

    def __init__(
        self, node: Holder, engine: AsyncEngine, name: str, stream: str, host: str, port: int
    ) -> None:
        self._node = node
        self._name = name
        self._stream = stream
        self.host, self.port = host, port
        self.first_packet, self.first_key_frame = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self.lost_with_node = ""
        self._numbers = 0
        self._viewers: dict[int, str] = {}  # the server's own names of its viewers
        self._told: dict[int, Callable[[str, int], None]] = {}
        self._relays: dict[int, tuple[int, Closed]] = {}
        self._copy = LocalCopy(engine, self, stream)
        self._last_bytes_at: float | None = None
        self._is_open = True

    async def announce(self, ssrc: int) -> None:
        """Nothing: the server's port is this stream's alone."""

    async def expect(self, promise: Promise) -> None:
        """Take only this SSRC from now on; payload types the server knows from its own configuration."""
        fields = {"stream_id": self._stream, "ssrc": promise.ssrc}
        if promise.ssrc is not None:
            await self._node.client.call("updateRtpServerSSRC", Done, **fields)

    async def connect(self, host: str, port: int) -> None:
        """tcp-active: connect to the sender."""
        fields = {"dst_url": host, "dst_port": port, "stream_id": self._stream}
        await self._node.client.call("connectRtpServer", Done, **fields)

    async def figures(self) -> IngestFigures:
        """What the server says of the stream. It counts frames, not packets, and tells loss as a share."""
        fields = {"vhost": VHOST, "app": APP, "stream": self._stream}
        try:
            listed = await self._node.client.call("getMediaList", MediaList, **fields)
        except TongshiError:
            return IngestFigures(0, 0, 0, 0, None, Codec(), is_known=False)
        ours = [media for media in listed.data if media.stream == self._stream]
        return self._read(ours[0] if ours else None)

    def _read(self, media: Media | None) -> IngestFigures:
        now = self._node.now()
        if media is not None and media.bytes_speed > 0:
            self._last_bytes_at = now
        silent_s = None if self._last_bytes_at is None else now - self._last_bytes_at
        if media is None:
            return IngestFigures(int(self.first_packet.is_set()), 0, 0, 0, silent_s, Codec())
        video = next((t for t in media.tracks if t.codec_type == 0), None)
        sound = next((t for t in media.tracks if t.codec_type == 1), None)
        frames = sum(max(0, t.frames) for t in media.tracks)
        lost = 0 if video is None or video.loss <= 0 else round(video.frames * video.loss)
        codec = Codec(
            "" if video is None else _CODECS.get(video.codec_id_name, video.codec_id_name.lower()),
            "" if sound is None else _CODECS.get(sound.codec_id_name, sound.codec_id_name.lower()),
            0 if video is None else video.width,
            0 if video is None else video.height,
        )
        return IngestFigures(frames, 0, 0, lost, silent_s, codec)

    async def group_of_pictures(self) -> bytes:
        """The last pictures from a key frame on, of a copy: the server does not give its own."""
        return await self._copy.group_of_pictures()

    def viewer_url(self, delivery: Delivery, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        """The server's own address of the stream, with our ticket, which it asks us about."""
        if is_sound_alone:
            raise Unprocessable(
                f"媒体节点 {self._name} 不单独提供声音", code=42203, details={"supported": []}
            )
        path = _PATHS.get(delivery)
        if path is None:
            raise Unprocessable(
                f"媒体节点 {self._name} 不提供 {delivery.value}",
                field="protocol",
                details={"supported": [d.value for d in _PATHS]},
            )
        base = self._node.viewer_url
        if delivery in (Delivery.WS_FLV, Delivery.WS_FMP4):
            base = f"ws{base.removeprefix('http')}"
        return f"{base}/{APP}/{self._stream}{path}?ticket={ticket}"

    def admitted(self, player: str) -> int:
        """A viewer was let in at the server; our number for it."""
        self._numbers += 1
        self._viewers[self._numbers] = player
        return self._numbers

    def tell_when_left(self, number: int, left: Callable[[str, int], None]) -> None:
        """Whom to tell that this viewer left."""
        self._told[number] = left

    def player_left(self, player: str, sent: int) -> None:
        """The server says that one of its viewers left."""
        for number, name in tuple(self._viewers.items()):
            if name == player:
                del self._viewers[number]
                if (left := self._told.pop(number, None)) is not None:
                    left("disconnected", sent)

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Closed,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        """Serve one who reads from this process, by a copy: the server relays to our own engine."""
        return -await self._copy.attach(container, fd, head, on_closed, dialogue, datagrams)

    async def reading(self, viewer: int) -> ReadingFigures | None:
        """How one who reads from this process keeps up; nothing is known of others."""
        return await self._copy.reading(-viewer) if viewer < 0 else None

    async def detach(self, viewer: int) -> int:
        """End one viewer; of one at the server the bytes are told later, so that this answers 0."""
        if viewer < 0:
            return await self._copy.detach(-viewer)
        player = self._viewers.pop(viewer, None)
        self._told.pop(viewer, None)
        if player is not None:
            await self._quietly("kick_session", id=player)
        return 0

    async def relay(
        self, transport: Transport, host: str, port: int, ssrc: int, on_closed: Closed
    ) -> tuple[int, int]:
        """Have the server send PS over RTP to another platform."""
        fields: dict[str, object] = {"vhost": VHOST, "app": APP, "stream": self._stream, "ssrc": ssrc}
        fields |= {"pt": 96, "use_ps": 1}
        command = "startSendRtp"
        if transport is Transport.TCP_PASSIVE:
            command = "startSendRtpPassive"
        else:
            fields |= {"dst_url": host, "dst_port": port, "is_udp": int(transport is Transport.UDP)}
        answer = await self._node.client.call(command, SendingPort, **fields)
        self._numbers += 1
        self._relays[self._numbers] = (ssrc, on_closed)
        return self._numbers, answer.local_port

    async def drop_relay(self, relay: int) -> None:
        """End one relay; nothing happens when it is gone."""
        ssrc, _ = self._relays.pop(relay, (None, None))
        if ssrc is not None:
            await self._quietly("stopSendRtp", vhost=VHOST, app=APP, stream=self._stream, ssrc=ssrc)

    def relay_stopped(self, ssrc: str) -> None:
        """The server says that it no longer sends with this SSRC."""
        for number, (own, on_closed) in tuple(self._relays.items()):
            if str(own) == ssrc:
                del self._relays[number]
                on_closed("disconnected")

    async def close(self) -> None:
        """Close at the server, with viewers and relays; idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self.ended.set()
        await self._copy.close()
        for relay in tuple(self._relays):
            await self.drop_relay(relay)
        for viewer in tuple(self._viewers):
            await self.detach(viewer)
        if not self.lost_with_node:
            await self._quietly("closeRtpServer", stream_id=self._stream)
        self._node.forget(self._stream)

    def lose(self, reason: str) -> None:
        """The node is gone, and this stream with it."""
        self.lost_with_node = reason
        self.ended.set()

    async def _quietly(self, command: str, **fields: object) -> None:
        """Give something back; a node that does not answer has lost it anyway."""
        try:
            await self._node.client.call(command, Done, **fields)
        except TongshiError as error:
            log.warning("media_node_command_failed", node=self._name, command=command, error=error.message)
