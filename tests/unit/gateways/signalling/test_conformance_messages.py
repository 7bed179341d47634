"""What leaves for a platform above and how a message that came is answered; no socket, no database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.answers import Answers
from tongshi.gateways.signalling.config import GatewayConfig
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.gateway import SignallingGateway
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.ports import DeviceSummary, Wanted
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.upward_answers import UpwardAnswers, own_item
from tongshi.ids import PlatformId
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.notify import Keepalive
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.response import CatalogResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.sip.message import Request, parse

UPPER, OWN = "31000000002000000001", PlatformId("31010100002000000001")
DEVICE, AREA = "31010100001180000001", "31010100002160000001"
AT = Remote("192.0.2.7", 5060, "udp")


class Line:
    """An endpoint that remembers requests; each waits for ``go`` before its answer."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.go = asyncio.Semaphore(0)

    async def request(self, method: str, **words: Any) -> Any:
        self.sent.append({"method": method, **words})
        await self.go.acquire()
        return SimpleNamespace(status=200)


class Shared:
    """What the upper may see: three cameras, two of them in a virtual organisation."""

    def __init__(self) -> None:
        self.items = [
            CatalogItem(
                device_id=f"3101010000132000000{number}",
                name="相机" * 100,
                civil_code="310101" if number < 3 else "310104",
                parent_ids=(OWN, AREA) if number < 3 else (OWN,),
            )
            for number in (1, 2, 3)
        ]

    async def shared_codes(self, upper_id: str, wanted: Wanted) -> tuple[tuple[str, ...], bool]:
        told = [
            item.device_id
            for item in self.items
            if (item.civil_code.startswith(wanted.division) if wanted.division else True)
            and (not wanted.below or not wanted.below.isdisjoint((item.device_id, *item.parent_ids)))
        ]
        return (tuple(told), bool(told)) if upper_id == UPPER else ((), False)

    async def shared_items(self, upper_id: str, codes: Sequence[str]) -> Sequence[CatalogItem]:
        return [item for item in self.items if item.device_id in codes]

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        return ()

    async def find_shared(self, upper_id: str, device_id: str) -> DeviceSummary | None:
        return None


class Incoming:
    """A message that waits for its answer."""

    def __init__(self, body: bytes, content_type: str, sender: str = DEVICE) -> None:
        text = (
            f"MESSAGE sip:{OWN}@3101010000 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa\r\n"
            f"From: <sip:{sender}@3101010000>;tag=1\r\nTo: <sip:{OWN}@3101010000>\r\nCall-ID: a\r\n"
            f"CSeq: 1 MESSAGE\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = parse(text.encode() + body)
        assert isinstance(request, Request)
        self.request, self.remote, self.answers = request, AT, list[tuple[int, bytes]]()

    def respond(self, status: int, reason: str = "", headers: Any = (), body: bytes = b"", **_: Any) -> None:
        self.answers.append((status, body))


def upper() -> Any:
    return SimpleNamespace(id=UPPER, sip_id=UPPER, remote=AT, profile=Profile())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def answers(line: Line) -> Any:
    post = Post(line, Answers())  # type: ignore[arg-type]
    shared: Any = Shared()
    made = UpwardAnswers(own_item(OWN, "黄浦区平台", "310101"), post, shared, ManualClock())
    yield made
    await made.stop()


async def test_parts_follow_each_other_under_one_number_to_who_asked(line: Line, answers: Any) -> None:
    assert await answers.take(upper(), CatalogQuery(41, OWN)) == 200
    for number in range(1, 5):
        await settle()
        assert len(line.sent) == number  # the next waits for the answer to this one
        line.go.release()
    await settle()
    assert len(line.sent) == 4
    assert {(one["method"], one["to_id"], one["content_type"]) for one in line.sent} == {
        ("MESSAGE", UPPER, "Application/MANSCDP+xml")
    }
    parts = [decode(one["body"]) for one in line.sent]
    assert all(isinstance(part, CatalogResponse) for part in parts)
    assert {(p.sn, p.device_id, p.sum_num) for p in parts if isinstance(p, CatalogResponse)} == {(41, OWN, 4)}


@pytest.mark.parametrize(
    ("node", "last_digits"),
    [("310101", ["1", "2"]), (AREA, ["1", "2"]), ("31010100001320000003", ["3"]), ("310115", [])],
)
async def test_a_node_is_answered_with_what_lies_in_it(
    line: Line, answers: Any, node: str, last_digits: list[str]
) -> None:
    assert await answers.take(upper(), CatalogQuery(1, node)) == (200 if last_digits else 404)
    line.go = asyncio.Semaphore(9)
    await settle()
    parts = [decode(one["body"]) for one in line.sent]
    items = [item for part in parts if isinstance(part, CatalogResponse) for item in part.items]
    assert [item.device_id[-1] for item in items] == last_digits
    assert {part.device_id for part in parts} <= {node}


def test_our_own_item_has_the_fields_of_a_system() -> None:
    body = CatalogResponse(1, OWN, 1, (own_item(OWN, "黄浦区平台", "310101"),)).render().decode("gb18030")
    item = body.partition("<Item>")[2].partition("</Item>")[0]
    names = [part.partition(">")[0] for part in item.split("<") if part and not part.startswith("/")]
    assert names == [
        "DeviceID", "Name", "Manufacturer", "Model", "CivilCode", "Address",
        "RegisterWay", "Secrecy", "Status",
    ]  # fmt: skip


def gateway() -> SignallingGateway:
    unused: Any = SimpleNamespace()
    made = SignallingGateway(
        GatewayConfig(OWN, "黄浦区平台", "310101", "127.0.0.1", 0), unused, unused, unused, ManualClock()
    )
    made.peers.put(Peer(DEVICE, AT, Profile(), 5000.0, 1000.0))
    return made


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("Application/MANSCDP+xml", 200),
        ("application/manscdp+XML; charset=GB2312", 200),
        ("text/plain", 415),
    ],
)
async def test_a_message_is_taken_by_its_type_and_answered_once_without_body(
    content_type: str, status: int
) -> None:
    incoming = Incoming(Keepalive(1, DEVICE).render(), content_type)
    await gateway()._reception.request(incoming)  # type: ignore[arg-type]
    assert incoming.answers == [(status, b"")]


@pytest.mark.parametrize(("sender", "status"), [(DEVICE, 200), ("31010100001180000009", 403)])
async def test_an_answer_that_nobody_awaits_is_dropped_and_a_stranger_refused(
    sender: str, status: int
) -> None:
    late = DeviceStatusResponse(77, DEVICE, online=True)
    incoming = Incoming(late.render(), "Application/MANSCDP+xml", sender)
    await gateway()._reception.request(incoming)  # type: ignore[arg-type]
    assert incoming.answers == [(status, b"")]


async def test_a_recorder_that_signs_with_its_channel_is_known_by_what_it_told() -> None:
    made, channel = gateway(), "31010100001320000001"
    late = DeviceStatusResponse(77, channel, online=True)
    stranger = Incoming(late.render(), "Application/MANSCDP+xml", channel)
    await made._reception.request(stranger)  # type: ignore[arg-type]
    made._routes.learn(DEVICE, [channel])
    known = Incoming(late.render(), "Application/MANSCDP+xml", channel)
    await made._reception.request(known)  # type: ignore[arg-type]
    assert (stranger.answers, known.answers) == ([(403, b"")], [(200, b"")])


async def test_an_answer_that_comes_before_the_200_of_its_query_is_taken() -> None:
    waiting = Answers()

    async def request(method: str, **words: Any) -> Any:
        query = decode(words["body"])
        assert waiting.give(DEVICE, DeviceStatusResponse(query.sn, DEVICE, online=True))
        return SimpleNamespace(status=200)

    endpoint: Any = SimpleNamespace(request=request)
    peer = Peer(DEVICE, AT, Profile(), 5000.0, 1000.0)
    answer = await Post(endpoint, waiting).device_status(peer, DEVICE, timeout_s=1.0)
    assert answer.online
    assert len(waiting) == 0
