"""The stepper over doubles: what the sender is told, what is shown, where it stands, and why not."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from tongshi.errors import Unavailable, Unprocessable
from tongshi.protocols.gb28181.mansrtsp import Command, Method, Reply, Span
from tongshi.protocols.media.codecs import RtpMap
from tongshi.resources.viewing import stepping
from tongshi.resources.viewing.stepping import Stepper

FRAME = 3600


class Ingest:
    """Holds the times that a test gives."""

    def __init__(self) -> None:
        self.held: deque[int] = deque()
        self.shown: int | None = 9000
        self.let_gone: list[bool] = []

    async def hold(self) -> int | None:
        return self.shown

    async def step(self) -> int | None:
        return self.held.popleft() if self.held else None

    async def let_go(self, *, forget: bool) -> None:
        self.let_gone.append(forget)
        self.held.clear()


class Call:
    """Sends pictures of its own while it plays."""

    def __init__(self, ingest: Ingest) -> None:
        self.ssrc: int | None = 1
        self.media_host, self.media_port = "", 0
        self.payload_types: tuple[RtpMap, ...] = ()
        self.ended, self.finished = asyncio.Event(), asyncio.Event()
        self.file_size: int | None = None
        self.commands: list[Command] = []
        self.pieces: deque[list[int]] = deque()
        self.refused: set[Method] = set()
        self.start: float | None = None
        self._ingest = ingest

    async def end(self) -> None: ...

    async def steer(self, command: Command) -> Reply:
        self.commands.append(command)
        if command.method in self.refused:
            return Reply(status=551, cseq=1)
        if command.method is Method.PLAY and self.pieces:
            self._ingest.held.extend(self.pieces.popleft())
        span = None if self.start is None else Span(self.start)
        return Reply(cseq=1, scale=command.scale, span=span)

    @property
    def told(self) -> list[tuple[str, float | None, float | None]]:
        """Method, start and scale of each command."""
        return [(c.method.value, c.span.start if c.span else None, c.scale) for c in self.commands]


@pytest.fixture
async def stepper() -> tuple[Stepper, Ingest, Call]:
    ingest = Ingest()
    call = Call(ingest)
    made = Stepper(ingest, call)
    await made.hold()
    return made, ingest, call


Parts = tuple[Stepper, Ingest, Call]


async def test_what_is_held_is_shown_first_and_the_sender_plays_a_piece_when_nothing_is_left(
    stepper: Parts,
) -> None:
    made, ingest, call = stepper
    ingest.held.append(9000 + FRAME)
    call.pieces.append([9000 + 2 * FRAME, 9000 + 3 * FRAME])
    assert await made.step(10.0, 1.0) == pytest.approx(10.04)
    assert call.commands == []
    assert await made.step(10.04, 1.0) == pytest.approx(10.08)
    assert call.told == [("PLAY", None, None), ("PAUSE", None, None)]
    assert await made.step(10.08, 1.0) == pytest.approx(10.12)
    assert len(call.commands) == 2


async def test_a_clock_that_went_on_while_the_sender_paused_is_no_distance(stepper: Parts) -> None:
    made, ingest, _ = stepper
    ingest.held.extend((9000 + 2 * FRAME, 900_000, 900_000 + FRAME))
    assert await made.step(10.0, 1.0) == pytest.approx(10.08)
    assert await made.step(10.08, 1.0) == pytest.approx(10.16)
    assert await made.step(10.16, 1.0) == pytest.approx(10.20)


async def test_from_another_speed_the_sender_is_led_back_to_the_position(stepper: Parts) -> None:
    made, ingest, call = stepper
    ingest.held.append(1)
    call.pieces.append([50_000])
    call.start = 9.5
    assert await made.step(10.0, -4.0) == 9.5
    assert ingest.let_gone == [True]
    assert call.told == [("PLAY", 10.0, 1.0), ("PAUSE", None, None)]


async def test_going_on_shows_what_is_held_and_a_jump_or_the_way_back_forgets_it(stepper: Parts) -> None:
    made, ingest, call = stepper
    assert (await made.play(Command(method=Method.PLAY, cseq=0, span=Span(None)), 10.0)).is_success
    assert (ingest.let_gone, made.opened.is_set()) == ([False], True)
    await made.hold()
    await made.play(Command(method=Method.PLAY, cseq=0, span=Span(60.0)), 10.0)
    await made.hold()
    await made.play(Command(method=Method.PLAY, cseq=0, scale=-1.0), 10.0)
    assert ingest.let_gone == [False, True, True]
    assert call.told == [("PLAY", None, None), ("PLAY", 60.0, None), ("PLAY", 10.0, -1.0)]
    await made.play(Command(method=Method.PLAY, cseq=0, scale=-1.0), 10.0)  # nothing is held any more
    assert (len(ingest.let_gone), call.told[-1]) == (3, ("PLAY", None, -1.0))


async def test_what_a_sender_refuses_stays_held(stepper: Parts) -> None:
    made, ingest, call = stepper
    call.refused = {Method.PLAY}
    assert not (await made.play(Command(method=Method.PLAY, cseq=0, scale=4.0), 10.0)).is_success
    assert (ingest.let_gone, made.opened.is_set()) == ([], False)
    with pytest.raises(Unprocessable) as caught:
        await made.step(10.0, 1.0)
    assert caught.value.code == 42203
    assert "step" not in str(caught.value.details["supported"])


async def test_a_sender_without_another_picture_is_paused_again_and_said_so(
    stepper: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "PIECE_S", 0.05)
    made, _, call = stepper
    with pytest.raises(Unprocessable):
        await made.step(10.0, 1.0)
    assert call.told[-1] == ("PAUSE", None, None)


async def test_at_its_end_what_is_held_is_seen_before_the_end_is_said(stepper: Parts) -> None:
    made, ingest, call = stepper
    ingest.held.append(9000 + FRAME)
    call.finished.set()
    assert await made.step(10.0, 1.0) == pytest.approx(10.04)
    with pytest.raises(Unavailable):
        await made.step(10.04, 1.0)
    assert (await made.play(Command(method=Method.PLAY, cseq=0, span=Span(None)), 10.0)).is_success
    assert (call.commands, ingest.let_gone) == ([], [False])
