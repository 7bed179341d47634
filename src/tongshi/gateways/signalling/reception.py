"""What comes in: each request and call goes to the flow that takes it, from those alone who may send it.

Implements: GB/T 28181-2022 9.1
Implements: GB/T 28181-2022 9.2
Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 9.6
Implements: GB/T 28181-2022 8.3
Devices and lower platforms register here and may notify and answer; platforms above, with whom we are
registered, may ask, control and call. Everybody else may register and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from tongshi.errors import RemoteViolation
from tongshi.gateways.signalling import journey
from tongshi.gateways.signalling.abnormality import Abnormalities
from tongshi.gateways.signalling.admission.desk import AdmissionDesk
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.broadcast import Broadcasts
from tongshi.gateways.signalling.catalogues import Catalogues
from tongshi.gateways.signalling.dispatch import Dispatch, read_message
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, IncomingSubscription
from tongshi.gateways.signalling.keepalive import Keepalives
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.profiles import Profiles
from tongshi.gateways.signalling.registrar import Registrar
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.senders import Senders
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionFlows
from tongshi.gateways.signalling.upward import Upper
from tongshi.gateways.signalling.upward_answers import UpwardAnswers
from tongshi.protocols.gb28181.device_response import DeviceConfigResponse
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import (
    CatalogResponse,
    DeviceControlResponse,
    DeviceInfoResponse,
    DeviceStatusResponse,
)
from tongshi.protocols.sip.message import Request

log = structlog.get_logger(__name__)

_ANSWERS = (DeviceInfoResponse, DeviceStatusResponse, DeviceControlResponse, DeviceConfigResponse)


@dataclass(frozen=True, slots=True)
class Reception:
    """The handlers of one endpoint, and where they lead."""

    senders: Senders
    dispatch: Dispatch
    registrar: Registrar
    subscriptions: SubscriptionFlows
    admission: AdmissionDesk
    profiles: Profiles
    broadcasts: Broadcasts
    keepalives: Keepalives
    abnormal: Abnormalities
    routes: Routes
    catalogues: Catalogues
    answers: Answers
    upward: UpwardAnswers

    async def request(self, incoming: IncomingRequest) -> None:
        """A request outside calls, an INFO or a NOTIFY."""
        method = incoming.request.method
        if method == "REGISTER":
            await self.registrar.handle(incoming)
        elif method == "MESSAGE":
            await self._message(incoming)
        elif method == "INFO":
            await self._info(incoming)
        elif method == "NOTIFY":
            await self.subscriptions.notify(incoming)
        else:
            incoming.respond(501)

    async def subscribe(self, incoming: IncomingSubscription) -> None:
        """A new subscription."""
        await self.subscriptions.subscribe(incoming)

    async def invite(self, invite: IncomingInvite) -> None:
        """A new call."""
        sender = self.senders.find(invite.request.from_.uri.user, invite.remote) or self.broadcasts.caller(
            invite
        )
        if isinstance(sender, Upper):
            if not _name_target(invite, sender):
                invite.reject(404)
                return
            await self.dispatch.call_of_upper(invite, sender)
        elif sender is not None:
            await self.dispatch.call_of_peer(invite, sender)
        else:
            self.admission.stranger_table.note("INVITE", invite.remote)
            invite.reject(403)

    def take_messages(self) -> None:
        """Register the flows that need no module of their own."""
        take = self.dispatch
        take.from_peer(Keepalive, self._keepalive)
        take.from_peer(CatalogResponse, self._catalogue_part)
        for answer in _ANSWERS:
            take.from_peer(answer, self._answer)
        take.from_upper(CatalogQuery, self._question)
        take.from_upper(DeviceInfoQuery, self._question)
        take.from_upper(DeviceStatusQuery, self._question)

    async def _info(self, incoming: IncomingRequest) -> None:
        """Only whoever is in a call knows its tags; a call that is not steered answers 405."""
        if incoming.call is None:
            incoming.respond(481)
        elif incoming.call.on_info is None:
            incoming.respond(405)
        else:
            await incoming.call.on_info(incoming)

    async def _message(self, incoming: IncomingRequest) -> None:
        sender = self.senders.find(incoming.request.from_.uri.user, incoming.remote)
        if sender is None:
            self.admission.stranger_table.note("MESSAGE", incoming.remote)
            incoming.respond(403)
            return
        message = read_message(incoming, sender)
        if message is None:
            return
        if not isinstance(message, Keepalive):
            self.profiles.heard(sender.id, incoming.request)
        if isinstance(sender, Upper):
            named = sender.names.inward(message)
            refusal = 404 if named is None else self._begin_journey(incoming.request)
            if named is None or refusal:
                incoming.respond(refusal)
                return
            await self.dispatch.message_of_upper(incoming, sender, named)
        else:
            await self.dispatch.message_of_peer(incoming, sender, message)

    def _begin_journey(self, request: Request) -> int:
        """Note how a question or a command of an upper came here; the status that ends it, 0 for none."""
        try:
            circles = journey.refusal(self.routes.own_id, request)
            if not circles:
                journey.current.set(journey.of(request))
        except RemoteViolation:
            return 400
        if circles:
            log.warning("message_in_circles", sender=request.from_.uri.user, status=circles)
        return circles

    async def _keepalive(self, incoming: IncomingRequest, peer: Peer, message: Keepalive) -> None:
        self.keepalives.take(incoming, peer, message)
        self.abnormal.heard(lambda: self.routes.channels_of(peer.id), message.faulty)

    async def _catalogue_part(self, incoming: IncomingRequest, peer: Peer, message: CatalogResponse) -> None:
        await self.catalogues.take(peer, message)
        incoming.respond(200)
        self.admission.catalogued(peer, message.items)

    async def _answer(self, incoming: IncomingRequest, peer: Peer, message: BaseMessage) -> None:
        incoming.respond(200)
        if isinstance(message, DeviceInfoResponse):
            self.profiles.learn_info(peer.id, message)
        self.answers.give(peer.id, message)

    async def _question(
        self,
        incoming: IncomingRequest,
        upper: Upper,
        message: CatalogQuery | DeviceInfoQuery | DeviceStatusQuery,
    ) -> None:
        incoming.respond(await self.upward.take(upper, message))


def _name_target(invite: IncomingInvite, upper: Upper) -> bool:
    """Put our code for the device into the Request-URI; False when the upper cannot know that device."""
    uri = invite.request.uri
    called = uri.user or invite.request.to.uri.user
    real = upper.names.real(called)
    if real is not None and real != called:
        asked = invite.request
        invite.request = Request(asked.method, replace(uri, user=real), asked.headers, asked.body)
    return real is not None
