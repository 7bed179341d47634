"""The platform's end: one stream that a media node of ours carries, behind the port that viewing names.

Viewers go to the node; what this process reads itself comes through a copy (``local_copy``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from tongshi.errors import PeerFailed, PeerTimeout, TongshiError, Unavailable, Unprocessable
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.local_copy import LocalCopy
from tongshi.gateways.media.nodes.remote import wire
from tongshi.gateways.media.nodes.remote.client import Client
from tongshi.resources.viewing.media_ports import Datagrams, IngestFigures, Promise, ReadingFigures
from tongshi.resources.viewing.model import Codec, Delivery, Transport
from tongshi.resources.viewing.tickets import Admission

log = structlog.get_logger(__name__)

Closed = Callable[[str], None]
Left = Callable[[str, int], None]


class Holder(Protocol):
    """The node as its streams need it."""

    name: str
    client: Client
    viewer_url: str
    rtsp_url: str

    def forget(self, stream: str) -> None:
        """The stream is closed."""
        ...

    def owe(self, stream: str, viewer: int) -> None:
        """The node did not answer that it ended a viewer."""
        ...


class RemoteIngest:
    """One receiving end at the node.

    Viewers have the numbers of their questions there; readers of the copy have those of our engine, shown
    negative, so that the two are told apart.
    """

    def __init__(self, node: Holder, engine: AsyncEngine, stream: str, host: str, port: int) -> None:
        self._node = node
        self._stream = stream
        self.host, self.port = host, port
        self.first_packet, self.first_key_frame = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self.lost_with_node = ""
        self.key_frame_wanted: Callable[[str], None] = lambda why: None
        self._guests: dict[int, tuple[Admission, Left]] = {}
        self._relays: dict[int, Closed] = {}
        self._numbers = 0
        self._copy = LocalCopy(engine, self, stream)
        self._is_open = True

    async def announce(self, ssrc: int) -> None:
        """An offer names this SSRC."""
        await self._call("announce", wire.AnnounceCall(stream=self._stream, ssrc=ssrc))

    async def expect(self, promise: Promise) -> None:
        """Take only what was promised from now on."""
        await self._call("expect", wire.ExpectCall(stream=self._stream, promise=promise))

    def on_key_frame_wanted(self, tell: Callable[[str], None]) -> None:
        """Whom to tell when a viewer at the node needs a key frame."""
        self.key_frame_wanted = tell

    async def connect(self, host: str, port: int) -> None:
        """tcp-active: connect to the sender."""
        await self._call("connect", wire.ConnectCall(stream=self._stream, host=host, port=port))

    async def figures(self) -> IngestFigures:
        """What arrived so far; not known when the stream is closed or its node does not answer."""
        try:
            call = wire.StreamCall(stream=self._stream)
            return (await self._node.client.call("figures", call, wire.Figures)).figures
        except TongshiError:
            return IngestFigures(0, 0, 0, 0, None, Codec(), is_known=False)

    async def group_of_pictures(self) -> bytes:
        """The last pictures from a key frame on, Annex B."""
        call = wire.StreamCall(stream=self._stream)
        return (await self._node.client.call("pictures", call, wire.Pictures)).data

    def viewer_url(self, delivery: Delivery, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        """The node's own address of the stream.

        Raises:
            Unprocessable: RTSP, which is not open there.
        """
        if delivery is Delivery.RTSP and self._node.rtsp_url:
            return delivery.url(self._node.rtsp_url, self._stream, ticket)
        if delivery is Delivery.RTSP:
            raise Unprocessable(
                f"媒体节点 {self._node.name} 不提供 {delivery.value}",
                field="protocol",
                details={"supported": [d.value for d in Delivery if d is not Delivery.RTSP]},
            )
        return delivery.url(self._node.viewer_url, self._stream, ticket)

    def admitted(self, number: int, admission: Admission, left: Left) -> None:
        """A viewer was let in at the node."""
        self._guests[number] = (admission, left)

    def guest_left(self, number: int, reason: str, sent: int = 0) -> None:
        """The node says that a viewer left."""
        if (guest := self._guests.pop(number, None)) is not None:
            guest[1](reason, sent)

    def returned(self, number: int) -> Admission | None:
        """The node could not serve a viewer as he wished; he was none."""
        guest = self._guests.pop(number, None)
        return None if guest is None else guest[0]

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Closed,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        """Serve one who reads from this process."""
        return -await self._copy.attach(container, fd, head, on_closed, dialogue, datagrams)

    async def reading(self, viewer: int) -> ReadingFigures | None:
        """How one who reads from this process keeps up; nothing is known of others."""
        return await self._copy.reading(-viewer) if viewer < 0 else None

    async def detach(self, viewer: int) -> int:
        """End one viewer; bytes sent to it, 0 when its node does not answer."""
        if viewer < 0:
            return await self._copy.detach(-viewer)
        if self._guests.pop(viewer, None) is None or self.lost_with_node:
            return 0
        try:
            call = wire.DetachCall(stream=self._stream, viewer=viewer)
            return (await self._node.client.call("detach", call, wire.Detached)).sent
        except TongshiError as error:
            self._node.owe(self._stream, viewer)
            self._note("detach", error)
            return 0

    async def throw_out(self, number: int) -> None:
        """A viewer was let in, and the node may not have heard it: he is none."""
        guest = self._guests.get(number)
        if guest is not None:
            guest[1]("not answered", await self.detach(number))

    async def relay(
        self, transport: Transport, host: str, port: int, ssrc: int, on_closed: Closed
    ) -> tuple[int, int]:
        """Have the node send to another platform."""
        self._numbers += 1
        number = self._numbers
        self._relays[number] = on_closed
        call = wire.RelayCall(
            stream=self._stream, relay=number, transport=transport, host=host, port=port, ssrc=ssrc
        )
        try:
            return number, (await self._node.client.call("relay", call, wire.Opened)).port
        except BaseException:
            self._relays.pop(number, None)
            raise

    async def drop_relay(self, relay: int) -> None:
        """End one relay; nothing happens when it is gone."""
        if self._relays.pop(relay, None) is not None and not self.lost_with_node:
            await self._quietly("drop", wire.DropCall(stream=self._stream, relay=relay))

    def relay_closed(self, relay: int) -> None:
        """The node says that a relay ended."""
        if (on_closed := self._relays.pop(relay, None)) is not None:
            on_closed("disconnected")

    async def close(self) -> None:
        """Close at the node, with viewers and relays; idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self.ended.set()
        await self._copy.close()
        self._guests.clear()
        self._relays.clear()
        if not self.lost_with_node:
            await self._quietly("close", wire.StreamCall(stream=self._stream))
        self._node.forget(self._stream)

    def lose(self, reason: str) -> None:
        """The node is gone, and this stream with it."""
        self.lost_with_node = reason
        self.ended.set()

    async def _call(self, verb: str, said: wire.AnnounceCall | wire.ExpectCall | wire.ConnectCall) -> None:
        """What a stream cannot do without. Raises Unavailable: the node's fault, not the device's (50302)."""
        try:
            await self._node.client.call(verb, said, wire.Empty)
        except (PeerFailed, PeerTimeout) as error:
            words = f"承载该路的媒体节点 {self._node.name} 出了故障（{error.message}），请重新打开"
            raise Unavailable(words, code=50302, retry_after_s=1) from error

    async def _quietly(self, verb: str, said: wire.DropCall | wire.StreamCall) -> None:
        """Give something back; a node that does not answer drops it by itself, or is told again."""
        try:
            await self._node.client.call(verb, said, wire.Empty)
        except TongshiError as error:
            self._note(verb, error)

    def _note(self, verb: str, error: TongshiError) -> None:
        log.warning("media_node_command_failed", node=self._node.name, command=verb, error=error.message)
