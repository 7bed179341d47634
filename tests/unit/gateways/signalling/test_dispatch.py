"""One taker a message; what nobody takes is answered and not forgotten."""

from __future__ import annotations

from typing import cast

import pytest

from tongshi.errors import LocalViolation
from tongshi.gateways.signalling.dispatch import Dispatch, session_of
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.message import UnknownMessage
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.sdp import SessionName

CODE = "31010000001320000001"


class _Asked:
    """A request or call that keeps its answer."""

    def __init__(self, offer: bytes = b"") -> None:
        self.offer = offer
        self.status = 0

    def respond(self, status: int, *_: object) -> None:
        self.status = status

    reject = respond


def _request() -> tuple[_Asked, IncomingRequest]:
    asked = _Asked()
    return asked, cast(IncomingRequest, asked)


async def _accept(incoming: IncomingRequest, sender: object, message: object) -> None:
    incoming.respond(202)


def _peer() -> Peer:
    return cast(Peer, type("P", (), {"id": CODE})())


def _upper() -> Upper:
    return cast(Upper, type("U", (), {"id": CODE})())


async def test_a_message_reaches_the_flow_of_its_side_only() -> None:
    dispatch = Dispatch()
    dispatch.from_peer(Keepalive, _accept)
    asked, incoming = _request()
    await dispatch.message_of_peer(incoming, _peer(), Keepalive(1, CODE))
    assert asked.status == 202
    asked, incoming = _request()
    await dispatch.message_of_upper(incoming, _upper(), Keepalive(1, CODE))
    assert asked.status == 200


async def test_an_unknown_question_of_an_upper_is_501_and_its_unknown_answer_200() -> None:
    dispatch = Dispatch()
    for root, status in (("Query", 501), ("Control", 501), ("Response", 200)):
        asked, incoming = _request()
        await dispatch.message_of_upper(incoming, _upper(), UnknownMessage(root, "Strange", 1, CODE))
        assert asked.status == status


def test_a_second_taker_is_a_mistake_of_ours() -> None:
    dispatch = Dispatch()
    dispatch.from_upper(CatalogQuery, _accept)
    with pytest.raises(LocalViolation):
        dispatch.from_upper(CatalogQuery, _accept)


async def test_calls_go_by_their_session_and_are_refused_without_a_flow() -> None:
    dispatch = Dispatch()
    asked = _Asked(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Playback\r\nt=0 0\r\n")
    await dispatch.call_of_upper(cast(IncomingInvite, asked), _upper())
    assert asked.status == 488
    asked = _Asked()
    await dispatch.call_of_peer(cast(IncomingInvite, asked), _peer())
    assert asked.status == 403


@pytest.mark.parametrize("offer", [b"", b"\xff\xfe", b"v=0\r\n"])
def test_an_offer_that_says_nothing_is_live(offer: bytes) -> None:
    assert session_of(offer) is SessionName.PLAY
