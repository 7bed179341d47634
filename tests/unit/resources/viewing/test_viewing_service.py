"""Sessions, tickets and shared streams over doubles of signalling and engine: no socket, no database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tongshi.clock import ManualClock
from tongshi.errors import (
    Forbidden,
    Gone,
    LimitExceeded,
    NotFound,
    PeerFailed,
    PeerTimeout,
    TongshiError,
    Unauthenticated,
    Unavailable,
)
from tongshi.ids import DeviceId
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing.media_ports import Datagrams, IngestFigures, Promise
from tongshi.resources.viewing.model import (
    Codec,
    Delivery,
    EndReason,
    Limits,
    Quality,
    Step,
    StreamKey,
    StreamType,
    Timeouts,
    Transport,
)
from tongshi.resources.viewing.ports import (
    ControlReply,
    HistoryCall,
    HistoryRequest,
    LiveRequest,
    Route,
    Viewer,
)
from tongshi.resources.viewing.service import Viewing
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing.model import Subject, SubjectKind

CODE = DeviceId("31010100001320000001")
QUICK = Timeouts(answer_s=0.05, first_packet_s=0.05, first_key_frame_s=0.05, linger_s=0.05, sweep_s=0.02)


def viewer(number: int = 1, host: str = "127.0.0.1") -> Viewer:
    return Viewer(Subject(SubjectKind.USER, str(number), f"user{number}"), host)


class Call:
    """An answered call."""

    def __init__(self, ssrc: int | None) -> None:
        self.ssrc = ssrc
        self.media_host, self.media_port = "127.0.0.1", 30_000
        self.payload_types: tuple[RtpMap, ...] = ()
        self.ended = asyncio.Event()
        self.is_over = False

    async def end(self) -> None:
        self.is_over = True


@dataclass
class Far:
    """Signalling toward a device that behaves as a test says."""

    error: TongshiError | None = None
    never: bool = False
    calls: list[Call] = field(default_factory=list)
    asked: list[DeviceId] = field(default_factory=list)  # for a key frame

    async def ask_key_frame(self, device_id: DeviceId) -> None:
        self.asked.append(device_id)
        if self.error is not None:
            raise self.error

    async def route(self, device_id: DeviceId) -> Route:
        return Route(device_id, Transport.UDP)

    async def open_live(self, request: LiveRequest, timeout_s: float) -> Call:
        if self.never:
            await asyncio.sleep(timeout_s)
            raise PeerTimeout("silent", code=50401)
        if self.error is not None:
            raise self.error
        self.calls.append(Call(7))
        return self.calls[-1]

    async def open_history(self, request: HistoryRequest, timeout_s: float) -> HistoryCall:
        raise AssertionError("not used here")

    async def control(self, device_id: DeviceId, ptz_cmd: str, preset_name: str = "") -> ControlReply:
        raise AssertionError("not used here")


class Ingest:
    """A receiving end; media comes at once unless the engine says otherwise."""

    def __init__(self, figures: IngestFigures) -> None:
        self.host, self.port = "127.0.0.1", 40_000
        self.first_packet, self.first_key_frame = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self.now = figures
        self.expected: list[int | None] = []
        self.connected: list[tuple[str, int]] = []
        self.viewers: dict[int, Callable[[str], None]] = {}
        self.is_closed = False

    lost_with_node = ""

    def viewer_url(self, delivery: object, ticket: str, *, is_sound_alone: bool = False) -> str | None:
        return None

    async def announce(self, ssrc: int) -> None: ...

    async def expect(self, promise: Promise) -> None:
        self.expected.append(promise.ssrc)

    async def connect(self, host: str, port: int) -> None:
        self.connected.append((host, port))

    async def figures(self) -> IngestFigures:
        return self.now

    async def group_of_pictures(self) -> bytes:
        return b"gop"

    async def attach(
        self,
        container: str,
        fd: int,
        head: bytes,
        on_closed: Callable[[str], None],
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> int:
        number = len(self.viewers) + 1
        self.viewers[number] = on_closed
        return number

    async def detach(self, viewer: int) -> int:
        return 1000 if self.viewers.pop(viewer, None) else 0

    async def relay(self, *_: Any) -> tuple[int, int]:
        raise AssertionError("not used here")

    async def drop_relay(self, relay: int) -> None:
        raise AssertionError("not used here")

    async def close(self) -> None:
        self.is_closed = True


class Engine:
    """Opens doubles. ``packets`` and ``picture`` say what will arrive."""

    def __init__(self) -> None:
        self.packets, self.picture = True, True
        self.figures = IngestFigures(9, 0, 0, 0, 0.0, Codec("h264", "", 640, 360))
        self.opened: list[Ingest] = []

    async def open(
        self, stream: str, transport: Transport, device_id: str = "", *, is_local: bool = False
    ) -> Ingest:
        ingest = Ingest(self.figures)
        if self.packets:
            ingest.first_packet.set()
        if self.packets and self.picture:
            ingest.first_key_frame.set()
        self.opened.append(ingest)
        return ingest


class Guard:
    """Admits everybody by one grant that a test may take back."""

    def __init__(self) -> None:
        self.valid = True
        self.asked = 0

    async def admit(self, who: Viewer, action: object, device_id: DeviceId, purpose: str) -> str:
        self.asked += 1
        if device_id != CODE:
            raise NotFound("设备不存在")
        return "g-1"

    async def is_valid(self, grant: str) -> bool:
        return self.valid


class World:
    """The service and everything around it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.far, self.engine, self.guard, self.clock = Far(), Engine(), Guard(), ManualClock()
        self.viewing = Viewing(
            signalling=self.far,
            engine=self.engine,
            guard=self.guard,
            clock=self.clock,
            base_url=lambda: "http://127.0.0.1:8081",
            timeouts=QUICK,
            limits=limits,
        )

    async def watch(self, number: int = 1, **changes: Any) -> Any:
        return await self.viewing.watch(viewer(number), Wish(**{"device_id": CODE, **changes}))

    async def gone(self) -> None:
        async with asyncio.timeout(2):
            while len(self.viewing.streams) or not all(ingest.is_closed for ingest in self.engine.opened):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert all(call.is_over for call in self.far.calls)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.viewing.start()
    yield made
    await made.viewing.stop_all()
    await made.gone()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_picture_has_one_ticket_for_all_its_addresses(world: World) -> None:
    opening = await world.watch(deliveries=(Delivery.HTTP_FLV, Delivery.HTTP_FMP4))
    (first, flv), (second, mp4) = opening.urls
    assert (first, second) == (Delivery.HTTP_FLV, Delivery.HTTP_FMP4)
    stream = opening.view.stream_id
    assert flv.startswith(f"http://127.0.0.1:8081/live/{stream}.flv?ticket=")
    assert mp4 == flv.replace(".flv", ".mp4")
    assert world.engine.opened[0].expected == [7]
    assert opening.view.codec == Codec("h264", "", 640, 360)


async def test_many_who_ask_at_once_share_one_call(world: World) -> None:
    openings = await asyncio.gather(*(world.watch(number) for number in range(20)))
    assert len(world.far.calls) == 1
    assert len({opening.view.stream_id for opening in openings}) == 1
    assert len({opening.view.session_id for opening in openings}) == 20


async def test_two_streams_of_one_device_are_two_calls(world: World) -> None:
    await world.watch()
    await world.watch(stream_type=StreamType.SUB)
    assert len(world.far.calls) == 2


async def test_tcp_active_connects_to_the_address_of_the_answer(world: World) -> None:
    await world.watch(transport=Transport.TCP_ACTIVE)
    assert world.engine.opened[0].connected == [("127.0.0.1", 30_000)]


@pytest.mark.parametrize(
    ("packets", "figures", "code", "step"),
    [
        (False, IngestFigures(0, 0, 0, 0, None, Codec()), 50402, Step.FIRST_PACKET),
        (False, IngestFigures(0, 0, 5, 0, None, Codec()), 50402, Step.FIRST_PACKET),
        (False, IngestFigures(0, 5, 0, 0, None, Codec()), 50403, Step.FIRST_PACKET),
        (True, IngestFigures(5, 0, 0, 0, 0.0, Codec()), 50403, Step.FIRST_KEY_FRAME),
    ],
)
async def test_no_media_and_no_picture_are_two_errors(
    world: World, packets: bool, figures: IngestFigures, code: int, step: Step
) -> None:
    world.engine.packets, world.engine.picture, world.engine.figures = packets, False, figures
    with pytest.raises(PeerTimeout) as caught:
        await world.watch()
    assert caught.value.code == code
    assert caught.value.details["foreignSsrcPackets"] == figures.foreign_ssrc
    assert caught.value.details["step"] == step
    view = world.viewing.session(viewer(), str(caught.value.details["sessionId"]))
    assert view.end_reason is EndReason.FAILED
    await world.gone()


async def test_all_who_wait_get_the_same_failure_with_their_own_session(world: World) -> None:
    world.far.error = PeerFailed("refused", details={"sipStatus": 486})
    found = await asyncio.gather(*(world.watch(n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(one, PeerFailed) and one.details["sipStatus"] == 486 for one in found)
    assert len({one.details["sessionId"] for one in found if isinstance(one, PeerFailed)}) == 3
    await world.gone()


async def test_a_device_that_hangs_up_before_the_first_packet_sent_no_media(world: World) -> None:
    world.engine.packets = False
    world.engine.figures = IngestFigures(0, 0, 0, 0, None, Codec())
    asking = asyncio.create_task(world.watch())
    while not world.far.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    world.far.calls[0].ended.set()
    with pytest.raises(PeerTimeout) as caught:
        await asking
    assert (caught.value.code, caught.value.details["hungUp"]) == (50402, True)


async def test_refused_access_opens_nothing(world: World) -> None:
    with pytest.raises(NotFound):
        await world.viewing.watch(viewer(), Wish(DeviceId("31010100001320000002")))
    assert not world.engine.opened
    assert world.guard.asked == 1


async def test_the_last_viewer_leaves_the_stream_warm_and_then_it_ends(world: World) -> None:
    first = await world.watch()
    await world.viewing.stop(viewer(), first.view.session_id)
    again = await world.watch()
    assert again.view.reused
    assert len(world.far.calls) == 1
    await world.viewing.stop(viewer(), again.view.session_id)
    await world.gone()


async def test_another_person_cannot_see_or_close_a_session(world: World) -> None:
    opening = await world.watch(1)
    with pytest.raises(NotFound) as caught:
        await world.viewing.stop(viewer(2), opening.view.session_id)
    assert caught.value.code == 40404
    with pytest.raises(NotFound):
        world.viewing.session(viewer(2), opening.view.session_id)
    assert world.viewing.recent(viewer(2)) == []
    assert len(world.viewing.recent(viewer(2), may_see_any=True)) == 1


def ticket(opening: Any) -> str:
    return str(opening.urls[0][1].partition("ticket=")[2])


async def test_a_ticket_is_checked_for_owner_stream_use_and_time(world: World) -> None:
    opening = await world.watch(expire_s=10)
    stream, good = opening.view.stream_id, ticket(opening)
    with pytest.raises(Unauthenticated):
        world.viewing.tickets.admit(stream, "", "127.0.0.1")
    with pytest.raises(Forbidden) as caught:
        world.viewing.tickets.admit(stream, good, "10.0.0.9")
    assert caught.value.code == 40302
    with pytest.raises(NotFound):
        world.viewing.tickets.admit("other", good, "127.0.0.1")
    world.clock.advance(11)
    with pytest.raises(Gone):
        world.viewing.tickets.admit(stream, good, "127.0.0.1")
    world.clock.advance(-5)
    world.viewing.tickets.admit(stream, good, "127.0.0.1")
    with pytest.raises(Gone):
        world.viewing.tickets.admit(stream, good, "127.0.0.1")


async def test_bytes_and_remaining_viewers_are_told_at_the_close(world: World) -> None:
    first, second = await world.watch(1), await world.watch(2)
    for one in (first, second):
        admission = world.viewing.tickets.admit(one.view.stream_id, ticket(one), "127.0.0.1")
        await world.viewing.tickets.serve(admission, "flv", -1, b"")
    world.clock.advance(3)
    closing = await world.viewing.stop(viewer(1), first.view.session_id)
    assert closing == replace(closing, closed=True, remaining_viewers=1, bytes_sent=1000, duration_s=3.0)


async def test_a_viewer_that_leaves_ends_its_session(world: World) -> None:
    opening = await world.watch()
    admission = world.viewing.tickets.admit(opening.view.stream_id, ticket(opening), "127.0.0.1")
    await world.viewing.tickets.serve(admission, "flv", -1, b"")
    world.engine.opened[0].viewers[1]("eof")
    view = world.viewing.session(viewer(), opening.view.session_id)
    assert view.end_reason is EndReason.VIEWER_LEFT
    await world.gone()


async def test_a_lost_peer_and_a_bye_end_the_sessions_with_their_reason(world: World) -> None:
    first = await world.watch()
    world.viewing.peer_lost(CODE)
    assert world.viewing.session(viewer(), first.view.session_id).end_reason is EndReason.DEVICE_OFFLINE
    second = await world.watch()
    world.far.calls[1].ended.set()
    async with asyncio.timeout(1):
        while world.viewing.session(viewer(), second.view.session_id).end_reason is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert world.viewing.session(viewer(), second.view.session_id).end_reason is EndReason.DEVICE_ENDED
    await world.gone()


async def test_silence_is_noticed_while_the_node_of_another_stream_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.watch()
    opening = await world.watch(stream_type=StreamType.SUB)
    hanging, silent = world.engine.opened

    async def never() -> IngestFigures:
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")

    monkeypatch.setattr(hanging, "figures", never)
    silent.now = replace(world.engine.figures, silent_s=99.0)
    async with asyncio.timeout(2):
        while not silent.is_closed:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert world.viewing.session(viewer(), opening.view.session_id).end_reason is EndReason.MEDIA_LOST
    assert not hanging.is_closed


async def test_silence_after_the_first_picture_is_noticed(world: World) -> None:
    opening = await world.watch()
    world.engine.opened[0].now = replace(world.engine.figures, silent_s=99.0)
    await world.gone()
    assert world.viewing.session(viewer(), opening.view.session_id).end_reason is EndReason.MEDIA_LOST


async def test_a_grant_taken_back_cuts_what_runs_on_it(world: World) -> None:
    opening = await world.watch()
    world.guard.valid = False
    await world.gone()
    assert world.viewing.session(viewer(), opening.view.session_id).end_reason is EndReason.REVOKED


async def test_an_abandoned_opening_is_taken_back(world: World) -> None:
    world.far.never = True
    asking = asyncio.create_task(world.watch())
    while not world.engine.opened:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await world.gone()


async def test_the_bounds_hold() -> None:
    world = World(Limits(max_streams=1, max_sessions=2, max_holders_of_stream=1))
    await world.watch()
    with pytest.raises(LimitExceeded) as caught:
        await world.watch()
    assert caught.value.code == 42904
    with pytest.raises(LimitExceeded):
        await world.watch(stream_type=StreamType.SUB)
    await world.viewing.stop_all()
    await world.gone()


async def test_a_relay_is_ready_when_the_device_answered_and_hears_of_its_end(world: World) -> None:
    world.engine.packets = False
    ended: list[EndReason] = []
    lease = await world.viewing.hold(
        viewer(), StreamKey(CODE, StreamType.MAIN), Transport.AUTO, lambda reason, _: ended.append(reason)
    )
    assert Step.ANSWERED in lease.stream.reached
    await world.gone()
    assert ended == [EndReason.FAILED]


async def test_an_offline_device_says_so(world: World) -> None:
    world.far.error = Unavailable("设备不在线", code=50301)
    with pytest.raises(Unavailable) as caught:
        await world.watch()
    assert caught.value.code == 50301


async def test_a_codec_that_no_browser_plays_is_refused_to_viewers_and_relayed_all_the_same(
    world: World,
) -> None:
    world.engine.figures = IngestFigures(9, 0, 0, 0, 0.0, Codec("svac", "", 0, 0))
    with pytest.raises(PeerTimeout, match="SVAC") as refused:
        await world.watch()
    assert refused.value.code == 50403
    assert refused.value.details["codec"] == "svac"
    await world.gone()
    key = StreamKey(CODE, StreamType.MAIN)
    relay = await world.viewing.hold(viewer(1), key, Transport.AUTO, lambda *_: None)
    with pytest.raises(PeerTimeout, match="SVAC"):
        await world.watch(2)
    assert relay.stream.end_reason is None
    world.viewing.release(relay)


async def test_what_shows_no_picture_is_relayed_all_the_same(world: World) -> None:
    world.engine.picture = False
    key = StreamKey(CODE, StreamType.MAIN)
    relay = await world.viewing.hold(viewer(1), key, Transport.AUTO, lambda *_: None)
    with pytest.raises(PeerTimeout, match="没有可解码的画面"):
        await world.watch(2)
    assert relay.stream.end_reason is None
    world.viewing.release(relay)


async def test_the_session_tells_how_well_its_picture_arrives(world: World) -> None:
    told = Quality(5.0, 2000.0, 25.0, 0.0, 1.0, 2.0, None, 2000.0, 0, 0)
    world.engine.figures = IngestFigures(9, 0, 0, 0, 0.0, Codec("h264", "", 640, 360), told)
    opening = await world.watch()
    await world.viewing.streams.sweep()
    view = world.viewing.session(viewer(1), opening.view.session_id)
    assert view.quality == told
