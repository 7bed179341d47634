# ruff: noqa: E501  # one case a line
"""RFC 4475, case by case: what an agent of ours does with each kind of torture message.

The messages are written here after the facts of the RFC (its section and short name stand with each), with
identities of documentation. A case either reaches its user (``reaches``), or is answered by the agent itself
(a status), or is met with silence. Where we are more tolerant than the RFC asks, because devices are worse
than it allows, the reason stands beside the case.
"""

from __future__ import annotations

import random

import pytest

from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.agent_events import RequestArrived
from tongshi.protocols.sip.call_events import InviteArrived
from tongshi.protocols.sip.composing import Identity
from tongshi.protocols.sip.message import Remote, Response, parse

UPPER, LOWER = "31000000002000000001", "31011500002000000001"
SOURCE = Remote("192.0.2.2", 5060, "udp")
LONG = "x" * 4_000


def message(
    start: str = f"MESSAGE sip:{LOWER}@192.0.2.1 SIP/2.0",
    *,
    via: str = "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKtorture",
    from_: str = f"<sip:{UPPER}@3100000000>;tag=98",
    to: str = f"<sip:{LOWER}@3101150000>",
    call_id: str = "torture@192.0.2.2",
    cseq: str = "9 MESSAGE",
    more: str = "",
    body: str = "",
) -> str:
    lines = (("Via", via), ("From", from_), ("To", to), ("Call-ID", call_id), ("CSeq", cseq))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines if value)
    return f"{start}\r\n{head}{more}\r\n{body}"


INVITE = f"INVITE sip:{LOWER}@192.0.2.1 SIP/2.0"
TORTUOUS = (
    f"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
    "TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = \r\n"
    f'from   : "J Rosenberg \\\\\\"" <sip:{UPPER}@3100000000>\r\n  ;\r\n  tag = 98asjd8\r\n'
    "MaX-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\n"
    "Content-Length   : 150\r\ncseq: 0009\r\n  INVITE\r\n"
    "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\ns :\r\n"
    "NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
    "UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
    "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n branch  =   z9hG4bK9ikj8  ,\r\n"
    " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n"
    'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n newvalue ;\r\n'
    " secondparam ; q = 0.33\r\n\r\nv=0\r\n"
)

CASES = {
    # 3.1.1, valid messages
    "3.1.1.1 wsinv": (TORTUOUS.replace(";   tag    = \r\n", "\r\n"), "reaches"),
    "3.1.1.2 intmeth": (
        message("!interesting-Method0123456789_*+`.%indeed'~ sip:x@192.0.2.1 SIP/2.0"),
        None,  # starts like no method in use, so that it is noise: nothing is answered to noise
    ),
    "3.1.1.3 esc01": (message(f"{INVITE[:7]}sip:sips%3Auser%40example.com@192.0.2.1 SIP/2.0", cseq="1 INVITE"), "reaches"),
    "3.1.1.4 escnull": (message("MESSAGE sip:null-%00-null@192.0.2.1 SIP/2.0"), "reaches"),
    "3.1.1.5 esc02": (message("RE%47IST%45R sip:192.0.2.1 SIP/2.0", cseq="1 RE%47IST%45R"), None),
    "3.1.1.6 lwsdisp": (message(from_=f"caller<sip:{UPPER}@3100000000>;tag=323"), "reaches"),
    "3.1.1.7 longreq": (
        message(to=f'"{LONG}"<sip:{LOWER}@3101150000:5060>;p={"y" * 900}', more=f"X-Long: {LONG}\r\n"), "reaches",
    ),
    "3.1.1.8 dblreq": (message(more="Content-Length: 0\r\n", body=message(call_id="second")), "reaches"),
    "3.1.1.9 semiuri": (message("MESSAGE sip:user;par=u%40example.net@192.0.2.1 SIP/2.0"), "reaches"),
    "3.1.1.10 transports": (
        message(via="SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bKkdjuw,SIP/2.0/TLS t4.example.com;branch=z9hG4bKa"),
        "reaches",
    ),
    "3.1.1.11 mpart01": (
        message(more="Content-Type: multipart/mixed;boundary=7a9cbec02ceef655\r\n", body="--7a9cbec02ceef655--"),
        "reaches",
    ),
    # 3.1.2, invalid messages
    # Empty parameters and entries say nothing, and answers go to the true source anyway.
    "3.1.2.1 badinv01": (message(via="SIP/2.0/UDP 192.0.2.15;;,;,,"), "reaches"),
    # A datagram's body is what it holds: devices count in another charset than they send (quirk 32).
    "3.1.2.2 clerr": (message(more="Content-Length: 9999\r\n", body="v=0\r\n"), "reaches"),
    "3.1.2.3 ncl": (message(more="Content-Length: -999\r\n", body="v=0\r\n"), "reaches"),
    "3.1.2.4 scalar02": (message(cseq="36893488147419103232 MESSAGE", more="Expires: 10000000000\r\n"), 400),
    # A stray quote in a display name hides no address.
    "3.1.2.6 quotbal": (message(to=f'"Mr. J. User <sip:{LOWER}@3101150000>'), "reaches"),
    "3.1.2.7 ltgtruri": (message("MESSAGE <sip:user@example.com> SIP/2.0"), None),
    "3.1.2.8 lwsruri": (message("MESSAGE sip:user@example.com; lr SIP/2.0"), 400),
    "3.1.2.9 lwsstart": (message(f"MESSAGE  sip:{LOWER}@192.0.2.1  SIP/2.0"), "reaches"),
    "3.1.2.10 trws": (message(f"MESSAGE sip:{LOWER}@192.0.2.1 SIP/2.0  "), "reaches"),
    "3.1.2.11 escruri": (message(f"MESSAGE sip:{LOWER}@192.0.2.1?Route=%3Csip:example.com%3E SIP/2.0"), "reaches"),
    # Date is told to nobody's clock but ours, and ours does not listen to a MESSAGE.
    "3.1.2.12 baddate": (message(more="Date: Fri, 01 Jan 2010 16:00:00 EST\r\n"), "reaches"),
    "3.1.2.13 regbadct": (message(more="Contact: sip:user@example.com?Route=%3Csip:x%3E\r\n"), "reaches"),
    "3.1.2.14 badaspec": (message(to=f'"Watson, Thomas" < sip:{LOWER}@3101150000 >'), "reaches"),
    "3.1.2.15 baddn": (message(from_=f"Bell, Alexander <sip:{UPPER}@3100000000>;tag=43"), "reaches"),
    "3.1.2.16 badvers": (message(f"MESSAGE sip:{LOWER}@192.0.2.1 SIP/7.0", via="SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw"), 505),
    "3.1.2.17 mismatch01": (message(cseq="8 INVITE"), 400),
    "3.1.2.18 mismatch02": (message(f"NEWMETHOD sip:{LOWER}@192.0.2.1 SIP/2.0", cseq="8 INVITE"), 400),
    # 3.2, transactions
    "3.2.1 badbranch": (message(via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK"), "reaches"),
    # 3.3, application layer
    "3.3.1 insuf": (message(from_="", to="", call_id="", cseq="193942 MESSAGE"), None),
    "3.3.2 unkscm": (message("MESSAGE nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"), 416),
    "3.3.3 novelsc": (message("MESSAGE soap.beep://192.0.2.103:3002 SIP/2.0"), 416),
    # Nobody is registered under such a name; whoever decides says so (403).
    "3.3.4 unksm2": (message(to="isbn:2983792873", from_="<http://www.example.com>;tag=3234233"), "reaches"),
    "3.3.5 bext01": (message(more="Require: nothingSupportsThis, nothingSupportsThisEither\r\n"), 420),
    "3.3.6 invut": (message(more="Content-Type: application/unknownformat\r\n", body="<audio/>"), "reaches"),
    "3.3.7 regaut01": (message(more="Authorization: NoOneKnowsThisScheme opaque-data=here\r\n"), "reaches"),
    "3.3.8 multi01": (message(more=f"CSeq: 59 MESSAGE\r\nCall-ID: second\r\nFrom: <sip:{LOWER}@x>;tag=2\r\n"), 400),
    "3.3.9 mcl01": (message(more="Content-Length: 13\r\nContent-Length: 5\r\n", body="hello"), "reaches"),
    "3.3.11 zeromf": (message(f"OPTIONS sip:{LOWER}@192.0.2.1 SIP/2.0", cseq="1 OPTIONS", more="Max-Forwards: 0\r\n"), 200),
    "3.3.12 cparam01": (message(more="Contact: sip:+19725552222@gw1.example.net;unknownparam\r\n"), "reaches"),
    "3.3.13 cparam02": (message(more="Contact: <sip:+19725552222@gw1.example.net;unknownparam>\r\n"), "reaches"),
    "3.3.14 regescrt": (message(more="Contact: <sip:u@example.com?Route=%3Csip:s.example.com%3E>\r\n"), "reaches"),
    "3.3.15 sdp01": (message(INVITE, cseq="1 INVITE", more="Accept: text/nobodyKnowsThis\r\n"), "reaches"),
    # 3.4, backward compatibility: no branch, no tag, no Max-Forwards
    "3.4.1 inv2543": (
        message(INVITE, cseq="7 INVITE", via="SIP/2.0/UDP 192.0.2.2", from_=f"<sip:{UPPER}@3100000000>"), "reaches",
    ),
}  # fmt: skip

# Responses to nothing we asked: all are silence, and none may end anything.
RESPONSES = {
    "3.1.1.12 unreason": "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое",
    "3.1.1.13 noreason": "SIP/2.0 100 ",
    "3.1.2.5 scalarlg": "SIP/2.0 503 Service Unavailable",
    "3.1.2.19 bigcode": "SIP/2.0 4294967301 better not break the receiver",
    "3.3.10 bcast": "SIP/2.0 200 OK",
}


def agent() -> UserAgent:
    return UserAgent(Identity(LOWER, "192.0.2.1", 5060), random_bytes=random.Random(5).randbytes)


@pytest.mark.parametrize("name", CASES)
def test_a_torture_message_has_the_right_answer_or_none(name: str) -> None:
    text, expected = CASES[name]
    ours = agent()
    ours.receive(text.encode(), SOURCE, 0.0)
    reached = [type(event).__name__ for event in iter(ours.next_event, None)]
    answers = [parse(output.data) for output in ours.take_output()]
    statuses = [answer.status for answer in answers if isinstance(answer, Response)]
    if expected == "reaches":
        assert reached in ([RequestArrived.__name__], [InviteArrived.__name__])
        assert statuses == []
    else:
        assert reached == []
        assert statuses == ([] if expected is None else [expected])


@pytest.mark.parametrize("name", RESPONSES)
def test_a_torture_response_is_met_with_silence(name: str) -> None:
    cseq = "9292394834772304023312 OPTIONS" if "scalarlg" in name else "1 OPTIONS"
    ours = agent()
    ours.receive(message(RESPONSES[name], cseq=cseq).encode("utf-8"), SOURCE, 0.0)
    assert ours.next_event() is None
    assert ours.take_output() == []
    assert ours.pending == 0


def test_the_whole_of_torture_leaves_nothing_behind() -> None:
    """Every message a thousand ways: what it holds is let go, and the tables are empty after Timer C."""
    ours, rng, now = agent(), random.Random(4475), 0.0
    texts = [text.encode() for text, _ in CASES.values()]
    for number in range(3_000):
        data = bytearray(rng.choice(texts).replace(b"torture", b"torture%d" % number))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        now += 0.001
        ours.receive(bytes(data), SOURCE, now)
        for event in iter(ours.next_event, None):
            if isinstance(event, RequestArrived):
                ours.respond(event, 200, "", (), b"", "", now)
            elif isinstance(event, InviteArrived):
                ours.reject(event.call, 486, "", (), now)
        ours.take_output()
    while (at := ours.next_timer()) is not None:
        ours.handle_timer(at)
        ours.take_output()
    assert ours.pending == 0
    assert len(ours.subscriptions) == 0
