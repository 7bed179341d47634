"""Broadcasts of uppers: an upper speaks to a device of ours.

Implements: GB/T 28181-2022 9.12
Its broadcast becomes one of ours downward, and once the device has called us, we call the upper, whose sound
goes to the device packet by packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tongshi.errors import RemoteViolation, TongshiError, Unprocessable
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.broadcast import either
from tongshi.gateways.signalling.dispatch import Dispatch
from tongshi.gateways.signalling.endpoint import IncomingRequest, OutgoingCall, SipEndpoint
from tongshi.gateways.signalling.ports import SoundIn, SoundSockets
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.recorded_archive import platform_subject
from tongshi.gateways.signalling.running_calls import RunningCalls
from tongshi.gateways.signalling.upward import Upper
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.audio_offer import choose_payload_type, offer_audio
from tongshi.protocols.gb28181.broadcast import BroadcastNotify, BroadcastResponse
from tongshi.protocols.gb28181.sdp import parse_sdp
from tongshi.protocols.gb28181.subject import Subject
from tongshi.protocols.media.g711 import PAYLOAD_TYPES, Law
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.voice import Voice

log = structlog.get_logger(__name__)

MAX_RELAYING = 64  # broadcasts of uppers that are being opened


class UpwardBroadcasts:
    """Takes the broadcasts of uppers; ``voice`` decides about them."""

    def __init__(
        self,
        voice: Voice,
        dispatch: Dispatch,
        endpoint: SipEndpoint,
        post: Post,
        running: RunningCalls,
        sockets: SoundSockets,
    ) -> None:
        self._voice = voice
        self._endpoint = endpoint
        self._post = post
        self._running = running
        self._sockets = sockets
        self._background = Background("upward broadcast")
        self._relaying = 0
        dispatch.from_upper(BroadcastNotify, self._from_upper)

    async def stop(self) -> None:
        """End what runs."""
        await self._background.stop()

    async def _from_upper(self, incoming: IncomingRequest, upper: Upper, notify: BroadcastNotify) -> None:
        """An upper speaks to a device of ours: decided and recorded before it is answered."""
        if self._relaying >= MAX_RELAYING:
            incoming.respond(503)
            return
        viewer = Viewer(platform_subject(upper.id), incoming.remote.host, incoming.request.call_id[:64])
        try:
            await self._voice.admit_upper(viewer, DeviceId(notify.device_id))
        except TongshiError as error:
            log.info("broadcast_refused", platform_id=upper.id, device_id=notify.device_id, code=error.code)
            incoming.respond(404)  # not permitted looks like unknown
            return
        incoming.respond(200)
        self._background.begin(self._relay(upper, viewer, notify))

    async def _relay(self, upper: Upper, viewer: Viewer, notify: BroadcastNotify) -> None:
        answered = False

        def accepted() -> None:
            nonlocal answered
            answered = True
            self._background.begin(self._respond(upper, notify, is_ok=True))

        self._relaying += 1
        try:
            line = await self._voice.relay(viewer, DeviceId(notify.device_id), accepted)
        except TongshiError as error:
            log.info("broadcast_failed", platform_id=upper.id, device_id=notify.device_id, code=error.code)
            if not answered:
                await self._respond(upper, notify, is_ok=False)
            return
        finally:
            self._relaying -= 1
        try:
            await self._listen_to(upper, notify, line.feed, line.ended)
        except TongshiError as error:
            log.info("broadcast_source_failed", platform_id=upper.id, error=error.message)
        finally:
            await line.end()

    async def _respond(self, upper: Upper, notify: BroadcastNotify, *, is_ok: bool) -> None:
        if not notify.sn:
            return
        try:
            await self._post.send(upper, BroadcastResponse(notify.sn, notify.device_id, is_ok))
        except TongshiError as error:
            log.info("broadcast_response_undelivered", platform_id=upper.id, error=error.message)

    async def _listen_to(
        self,
        upper: Upper,
        notify: BroadcastNotify,
        feed: Callable[[bytes, Law], None],
        ended: asyncio.Event,
    ) -> None:
        """Call the upper's voice source and pass on what it says, until one side ends it."""

        def sound(payload: bytes, payload_type: int) -> None:
            law = PAYLOAD_TYPES.get(payload_type)
            if law is not None:
                feed(payload, law)

        inlet = await self._sockets.inlet(sound)
        call: OutgoingCall | None = None
        try:
            call = await self._call_source(upper, notify, inlet)
            forget = self._running.begin(call, "up", notify.source_id)
            try:
                await either(call.ended, ended)
            finally:
                forget()
        finally:
            inlet.close()
            if call is not None:
                await call.bye()

    async def _call_source(self, upper: Upper, notify: BroadcastNotify, inlet: SoundIn) -> OutgoingCall:
        target_id = upper.names.shown(notify.device_id)
        offer = offer_audio(owner_id=target_id, address=self._sockets.host, port=inlet.port)
        subject = Subject(notify.source_id, "0001", target_id, "1")
        call = await self._endpoint.invite(
            to_id=notify.source_id, remote=upper.remote, sdp=offer.render(), subject=subject.render()
        )
        try:
            answer = parse_sdp(call.answer)
            choose_payload_type(answer)
        except (RemoteViolation, Unprocessable):
            await call.bye()
            raise
        inlet.expect(answer.ssrc, answer.address or call.remote.host)
        return call
