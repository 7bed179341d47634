"""What TLS means for names and ways: Contact, redirections, who is believed to be where. No socket."""

from __future__ import annotations

import random

import pytest

from tongshi.errors import RemoteViolation
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.tls import reason_of
from tongshi.protocols.sip.address import transport_of
from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.call_events import InviteArrived
from tongshi.protocols.sip.composing import Identity
from tongshi.protocols.sip.message import Response, parse

SERVER, OTHER = "31000000002000000001", "31000000002000000002"
TLS, UDP = Remote("192.0.2.7", 5061, "tls"), Remote("192.0.2.7", 5060, "udp")


async def nobody(_: IncomingRequest | IncomingInvite) -> None:
    return None


def registrant(remote: Remote) -> Registrant:
    endpoint = SipEndpoint(local_id=SERVER, host="127.0.0.1", port=0, on_request=nobody, on_invite=nobody)
    return Registrant(endpoint, server_id=SERVER, remote=remote, username="", password="")


def redirection(contact: str) -> Response:
    text = (
        "SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKa\r\n"
        "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: a\r\nCSeq: 1 REGISTER\r\n"
        f"Contact: {contact}\r\n\r\n"
    )
    made = parse(text.encode())
    assert isinstance(made, Response)
    return made


@pytest.mark.parametrize(
    ("home", "contact", "there"),
    [
        (UDP, f"<sip:{OTHER}@192.0.2.8>", Remote("192.0.2.8", 5060, "udp")),
        (UDP, f"<sip:{OTHER}@192.0.2.8;transport=TLS>", Remote("192.0.2.8", 5061, "tls")),
        (UDP, f"<sips:{OTHER}@192.0.2.8:5071>", Remote("192.0.2.8", 5071, "tls")),
        (TLS, f"<sip:{OTHER}@192.0.2.8>", Remote("192.0.2.8", 5061, "tls")),
    ],
)
async def test_a_redirection_names_the_transport(home: Remote, contact: str, there: Remote) -> None:
    made = registrant(home)
    made._follow(redirection(contact))
    assert (made.server_id, made.remote) == (OTHER, there)


async def test_a_redirection_does_not_lead_out_of_tls() -> None:
    made = registrant(TLS)
    with pytest.raises(RemoteViolation):
        made._follow(redirection(f"<sip:{OTHER}@192.0.2.8;transport=udp>"))
    assert made.remote == TLS


@pytest.mark.parametrize(
    ("scheme", "remote", "contact"),
    [
        ("sip", UDP, f"<sip:{SERVER}@192.0.2.1:5060>"),
        ("sip", TLS, f"<sip:{SERVER}@192.0.2.1:5061;transport=tls>"),
        ("sips", TLS, f"<sips:{SERVER}@192.0.2.1:5061>"),
    ],
)
def test_a_call_is_answered_with_a_contact_of_its_own_kind(scheme: str, remote: Remote, contact: str) -> None:
    agent = UserAgent(
        Identity(SERVER, "192.0.2.1", 5060, tls_port=5061), random_bytes=random.Random(1).randbytes
    )
    text = (
        f"INVITE {scheme}:{SERVER}@192.0.2.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/{remote.transport.upper()} 192.0.2.7;branch=z9hG4bKa\r\n"
        f"From: <sip:{OTHER}@b>;tag=1\r\nTo: <sip:{SERVER}@b>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <{scheme}:{OTHER}@192.0.2.7:5061>\r\n\r\n"
    )
    agent.receive(text.encode(), remote, 0.0)
    event = agent.next_event()
    assert isinstance(event, InviteArrived)
    agent.accept(event.call, b"v=0\r\n", (), 0.0)
    answer = parse(agent.take_output()[-1].data)
    assert answer.headers.get("Contact") == contact
    assert agent.dialog(event.call).target == f"{scheme}:{OTHER}@192.0.2.7:5061"


def test_a_transport_that_is_not_known_is_udp() -> None:
    assert [transport_of(text) for text in ("", "UDP", "Tcp", "TLS", "sctp")] == [
        "udp", "udp", "tcp", "tls", "udp",
    ]  # fmt: skip


def test_what_has_no_name_of_ours_is_told_as_it_came() -> None:
    assert reason_of(OSError("network is unreachable")) == "network is unreachable"
    assert reason_of(ConnectionRefusedError()) == "对端拒绝连接（端口未开放）"
    assert reason_of(TimeoutError()) == "连接超时"
