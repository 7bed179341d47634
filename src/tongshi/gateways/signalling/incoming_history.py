"""A recording on its way to a platform above: its INFO is passed on and its end told inside the upper's call.

Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 Annex B
The body is passed on with a CSeq of our own and answered with the upper's. The sequence number in RTP-Info is
made that of the packet we send (B.2.1); it is left out as long as our packets are no copies of the sender's.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import (
    InvalidRequest,
    PeerTimeout,
    RemoteViolation,
    TongshiError,
    Unavailable,
    Unprocessable,
)
from tongshi.gateways.signalling.endpoint import IncomingCall, IncomingRequest
from tongshi.gateways.signalling.questions import CONTENT_TYPE
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181 import mansrtsp
from tongshi.protocols.gb28181.mansrtsp import Method, Reply
from tongshi.protocols.gb28181.notify import MediaStatus
from tongshi.protocols.gb28181.records import RecordType
from tongshi.protocols.gb28181.sdp import Sdp, SessionName
from tongshi.resources.viewing.history import obey
from tongshi.resources.viewing.media_ports import Numbering
from tongshi.resources.viewing.model import History
from tongshi.resources.viewing.recordings import MAX_SEARCH, Window
from tongshi.resources.viewing.streams import SharedStream

log = structlog.get_logger(__name__)

MAX_UNDER_WAY = 4096  # packets between the sender's answer and its first packet after it
GOODBYE_S = 5.0  # an upper that was told of the end hangs up (9.8.2); one that does not is hung up on


class HistoryLeg:
    """What an upper may do inside the call of a recording, and what it is told at its end."""

    def __init__(
        self,
        upper: Upper,
        call: IncomingCall,
        stream: SharedStream,
        shown_id: str,
        clock: Clock,
        relay: int,
    ) -> None:
        self._upper = upper
        self._call = call
        self._stream = stream
        self._shown_id = shown_id
        self._clock = clock
        self._relay = relay
        call.on_info = self.steer

    async def steer(self, incoming: IncomingRequest) -> None:
        """Pass one INFO on and answer it with what the device said."""
        below = self._stream.history_call
        try:
            command = mansrtsp.parse_command(incoming.request.body)
        except RemoteViolation as violation:
            log.info("steering_malformed", platform_id=self._upper.id, reason=violation.message)
            incoming.respond(400)
            return
        if below is None:
            incoming.respond(481)
            return
        try:
            reply = await below.steer(command)
        except TongshiError as error:
            log.info("steering_failed", platform_id=self._upper.id, code=error.code)
            incoming.respond(_status_of(error))
            return
        if reply.is_success:
            obey(self._stream, command, reply, self._clock.now())
        seq = await self._sequence(reply) if command.method is Method.PLAY else None
        told = msgspec.structs.replace(reply, cseq=command.cseq, version=command.version, seq=seq)
        incoming.respond(200, body=told.render(), content_type=mansrtsp.CONTENT_TYPE)

    async def _sequence(self, reply: Reply) -> int | None:
        """The number under which the upper gets the packet that the sender named."""
        ingest = self._stream.ingest
        if reply.seq is None or not isinstance(ingest, Numbering):
            return None
        try:
            numbers = await ingest.numbers(self._relay)
        except TongshiError:
            return None  # the relay has just ended
        if numbers is None:
            return None
        own, expected = numbers
        ahead = (reply.seq - expected + 0x8000) % 0x10000 - 0x8000
        # A sender that begins to count anew goes on with our next number.
        return (own + (ahead if abs(ahead) <= MAX_UNDER_WAY else 0)) % 0x10000

    async def tell_end(self) -> None:
        """Say that everything was sent, and give the upper a moment to hang up."""
        profile = self._upper.profile
        status = MediaStatus(self._upper.next_sn(), self._shown_id)
        try:
            await self._call.message(status.render(profile.charset, profile.edition), CONTENT_TYPE)
            async with asyncio.timeout(GOODBYE_S):
                await self._call.ended.wait()
        except (TongshiError, TimeoutError) as error:
            log.info("end_of_recording_unheard", platform_id=self._upper.id, error=str(error))


def history_of(offer: Sdp, owner: str) -> History | None:
    """What of a recording an offer asks for; None for a live one. ``owner`` makes the stream this call's.

    Raises:
        Unprocessable: times that are none (488).
    """
    if offer.session_name not in (SessionName.PLAYBACK, SessionName.DOWNLOAD):
        return None
    start, end = (datetime.fromtimestamp(second, UTC) for second in (offer.start_s, offer.end_s))
    try:
        window = Window(start, end, RecordType.of_uri(offer.uri)).check(MAX_SEARCH)
    except InvalidRequest as error:
        raise Unprocessable(error.message) from error
    is_download = offer.session_name is SessionName.DOWNLOAD
    return History(window, owner, max(1, offer.download_speed or 1) if is_download else None)


def file_size_of(stream: SharedStream) -> int | None:
    """What the device said of the size of a download."""
    return None if stream.history_call is None else stream.history_call.file_size


def _status_of(error: TongshiError) -> int:
    if isinstance(error, PeerTimeout):
        return 408
    return 481 if isinstance(error, Unavailable) else 500
