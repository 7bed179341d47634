"""Calls for recordings: opened like live ones, steered by INFO inside, ended by the word that all was sent.

Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 9.9
Implements: GB/T 28181-2022 Annex B
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from tongshi.errors import PeerFailed, RemoteViolation
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.live import DownwardCall, LiveCaller
from tongshi.gateways.signalling.peers import Peer
from tongshi.protocols.gb28181.mansrtsp import CONTENT_TYPE, Command, Reply, Version, parse_reply
from tongshi.protocols.gb28181.notify import HISTORY_FINISHED, MediaStatus
from tongshi.protocols.sip.message import Response
from tongshi.resources.viewing.ports import HistoryRequest

log = structlog.get_logger(__name__)

STEER_TIMEOUT_S = 8.0
_BAD_REQUEST = 400


class DownwardHistory:
    """One answered call for a recording; see ``viewing.ports.HistoryCall``."""

    def __init__(self, call: DownwardCall, device_id: str, forget: Callable[[str], None]) -> None:
        self._call = call
        self._forget = forget
        self.device_id = device_id
        self.ssrc, self.media_host, self.media_port = call.ssrc, call.media_host, call.media_port
        self.payload_types = call.payload_types
        self.ended = call.ended
        self.file_size = call.answer.file_size
        self.route_path = call.route_path
        self.finished = asyncio.Event()
        self._cseq = 0
        self._version: Version = "RTSP/1.0"
        self._one_at_a_time = asyncio.Lock()

    @property
    def call_id(self) -> str:
        return self._call.sip.call_id

    async def end(self) -> None:
        self._forget(self.call_id)
        await self._call.end()

    async def steer(self, command: Command) -> Reply:
        """Send one request; the CSeq and the version are ours.

        A peer that answers 400 is tried once more with the version of 2011, and spoken to so from then on
        (quirk 52).
        """
        async with self._one_at_a_time:
            response = await self._send(command)
            if response.status == _BAD_REQUEST and self._version == "RTSP/1.0":
                self._version = "MANSRTSP/1.0"
                response = await self._send(command)
                if response.status == _BAD_REQUEST:
                    self._version = "RTSP/1.0"
        if not 200 <= response.status < 300:
            message = f"设备拒绝了回放控制（SIP {response.status}）"
            raise PeerFailed(message, code=50201, details={"sipStatus": response.status})
        try:
            return parse_reply(response.body)
        except RemoteViolation:
            # The reply may stand in the body of the 200, and need not (B.1): then the 200 is the answer.
            return Reply(cseq=self._cseq)

    async def _send(self, command: Command) -> Response:
        self._cseq += 1
        said = msgspec.structs.replace(command, cseq=self._cseq, version=self._version)
        return await self._call.sip.info(said.render(), CONTENT_TYPE, STEER_TIMEOUT_S)


class HistoryCalls:
    """Opens calls for recordings and hears their end."""

    def __init__(self, caller: LiveCaller) -> None:
        self._caller = caller
        self._open: dict[str, DownwardHistory] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def open(self, request: HistoryRequest, timeout_s: float) -> DownwardHistory:
        """Call the sender of a recording; raises what ``LiveCaller.open`` does."""
        call = await self._caller.open(request, timeout_s)
        made = DownwardHistory(call, request.device_id, self._forget)
        self._open[made.call_id] = made
        return made

    def _forget(self, call_id: str) -> None:
        self._open.pop(call_id, None)

    async def take(self, incoming: IncomingRequest, peer: Peer, status: MediaStatus) -> None:
        """A sender has sent everything: by its call, else by the channel's only one (quirk 55)."""
        incoming.respond(200)
        if status.notify_type != HISTORY_FINISHED:
            log.info("media_status_unknown", peer_id=peer.id, notify_type=status.notify_type)
            return
        made = self._open.get(incoming.request.call_id)
        if made is None:
            of_device = [one for one in self._open.values() if one.device_id == status.device_id]
            made = of_device[0] if len(of_device) == 1 else None
        if made is None:
            log.info("media_status_unasked", peer_id=peer.id, device_id=status.device_id)
            return
        made.finished.set()
