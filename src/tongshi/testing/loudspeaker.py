"""The voice side of a simulated device: it calls who notified it, and hears what is spoken.

Implements: GB/T 28181-2022 9.12
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import structlog

from tongshi.errors import TongshiError
from tongshi.gateways.signalling.endpoint import OutgoingCall, Remote, SipEndpoint
from tongshi.protocols.gb28181.audio_offer import offer_audio
from tongshi.protocols.gb28181.broadcast import BroadcastNotify
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.subject import Subject
from tongshi.protocols.media.g711 import PAYLOAD_TYPES, RATE_HZ, SILENCE, linear
from tongshi.protocols.media.rtp_audio import AudioPacket, parse_packet

log = structlog.get_logger(__name__)

MAX_HEARD = 3_000  # packets: a minute
_LINEAR = {law: np.array([linear(code, law) for code in range(256)]) for law in ("alaw", "ulaw")}


class Hearing(asyncio.DatagramProtocol):
    """What arrived at one loudspeaker."""

    def __init__(self) -> None:
        self.packets: list[AudioPacket] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        packet = parse_packet(data)
        if packet is not None and len(self.packets) < MAX_HEARD:
            self.packets.append(packet)

    @property
    def spoken(self) -> list[AudioPacket]:
        """Packets that are not silence."""
        return [one for one in self.packets if one.payload != SILENCE[PAYLOAD_TYPES[one.payload_type]]]

    def tone_hz(self) -> float:
        """The loudest frequency of what was spoken; 0.0 when nothing was."""
        heard = self.spoken
        if not heard:
            return 0.0
        samples = np.concatenate(
            [_LINEAR[PAYLOAD_TYPES[one.payload_type]][np.frombuffer(one.payload, np.uint8)] for one in heard]
        ).astype(float)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        return float(np.argmax(spectrum[1:]) + 1) * RATE_HZ / len(samples)


@dataclass(slots=True)
class Habits:
    """How a loudspeaker differs from the standard's flow.

    Attributes:
        refuses: answers ERROR. is_mute: says yes and never calls. skips_response: calls without a Response.
        calls_platform: To is the platform and Subject is turned round (quirk 62).
        payload_types: what it offers.
    """

    refuses: bool = False
    is_mute: bool = False
    skips_response: bool = False
    calls_platform: bool = False
    payload_types: tuple[int, ...] = (8,)


@dataclass(slots=True)
class Loudspeaker:
    """Voice outputs of one device. ``hearings`` are by output, the latest call of each."""

    server_id: str
    remote: Remote
    host: str
    endpoint: SipEndpoint
    habits: Habits = field(default_factory=Habits)
    hearings: dict[str, Hearing] = field(default_factory=dict)
    calls: dict[str, OutgoingCall] = field(default_factory=dict)

    async def call(self, notify: BroadcastNotify, output_id: str) -> None:
        """Call the voice source and listen until it hangs up."""
        loop = asyncio.get_running_loop()
        transport, hearing = await loop.create_datagram_endpoint(Hearing, local_addr=(self.host, 0))
        self.hearings[output_id] = hearing
        try:
            port = int(transport.get_extra_info("sockname")[1])
            call = self.calls[output_id] = await self._invite(notify, output_id, port)
            await call.ended.wait()
        except TongshiError as error:
            log.info("loudspeaker_call_failed", output_id=output_id, error=error.message)
        finally:
            self.calls.pop(output_id, None)
            transport.close()

    async def hang_up(self) -> None:
        """End every call."""
        await asyncio.gather(*(call.bye() for call in tuple(self.calls.values())))

    async def _invite(self, notify: BroadcastNotify, output_id: str, port: int) -> OutgoingCall:
        offer = offer_audio(owner_id=output_id, address=self.host, port=port)
        text = offer.render().replace(b"RTP/AVP 8 0", b"RTP/AVP " + self._formats())
        subject = Subject(notify.source_id, "0001", output_id, "1")
        to_id = notify.source_id
        if self.habits.calls_platform:
            subject, to_id = Subject(output_id, "1", self.server_id, "0"), self.server_id
        call = await self.endpoint.invite(
            to_id=to_id, remote=self.remote, sdp=text, subject=subject.render(), from_id=output_id
        )
        parse_sdp(call.answer)
        return call

    def _formats(self) -> bytes:
        return " ".join(map(str, self.habits.payload_types)).encode()
