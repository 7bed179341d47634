"""A simulated recording obeys: pace, pause, seek, speed, back, gaps and its end, on a hand-moved clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from tongshi.clock import BEIJING, ManualClock
from tongshi.protocols.gb28181.records import RecordInfoQuery, RecordInfoResponse, RecordType
from tongshi.testing.answers import Device
from tongshi.testing.pan_tilt import View
from tongshi.testing.picture import CodedFrame, Picture
from tongshi.testing.plan import CameraPlan, FleetPlan, Server, configs
from tongshi.testing.playback import RecordedStream
from tongshi.testing.recordings import COUNTER_PERIOD_S, Recorded, made_up, second_of, within
from tongshi.testing.stream import FRAME_S

START = datetime(2026, 5, 19, 8, 0, tzinfo=BEIJING)
CODE = "31010100001320000001"


class FakePicture:
    def __init__(self) -> None:
        self.frames: list[tuple[datetime, bool, int]] = []

    def next(
        self, view: View, at: datetime, *, force_key: bool = False, counter: int | None = None
    ) -> CodedFrame:
        assert counter is not None
        self.frames.append((at, force_key, counter))
        return CodedFrame(b"frame", force_key)


class FakeSender:
    local_port = 1

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.is_closed = False

    def connect(self, host: str, port: int) -> None: ...

    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        self.stamps.append(pts_90k)
        return 2

    def send_audio(self, payload: bytes, pts_90k: int) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """One recording, by default ten seconds, a gap of twenty, and ten seconds more."""

    def __init__(
        self,
        spans: tuple[tuple[float, float], ...] = ((0.0, 10.0), (30.0, 40.0)),
        speed: float = 1.0,
        keeps_stamps: bool = False,
    ) -> None:
        self.clock, self.sender, self.picture = ManualClock(), FakeSender(), FakePicture()
        self.told: list[str] = []
        self.stream = RecordedStream(
            open_picture=lambda: cast(Picture, self.picture),
            sender=self.sender,
            clock=self.clock,
            start=START,
            spans=spans,
            on_finished=lambda: self.told.append("finished"),
            on_end=self.told.append,
            speed=speed,
            keeps_stamps=keeps_stamps,
        )

    def run(self, seconds: float) -> list[float]:
        """Positions sent within so many seconds."""
        before = len(self.picture.frames)
        end = self.clock.now() + seconds
        while (due := self.stream.step(self.clock.now())) is not None and due < end:
            self.clock.seconds = max(due, self.clock.seconds)
        self.clock.seconds = end
        return [(at - START).total_seconds() for at, _, _ in self.picture.frames[before:]]


def test_it_plays_at_its_pace_and_every_frame_says_its_second() -> None:
    bench = Bench()
    positions = bench.run(4.0)
    assert len(positions) == 50
    assert positions[:2] == [0.0, FRAME_S]
    for at, _, counter in bench.picture.frames:
        assert second_of(counter, at) == at.astimezone(UTC).replace(microsecond=0)
    assert {b - a for a, b in zip(bench.sender.stamps, bench.sender.stamps[1:], strict=False)} == {7200}


def test_a_gap_is_passed_over_and_the_end_is_told_once() -> None:
    bench = Bench()
    positions = bench.run(25.0)
    assert max(positions) == pytest.approx(40.0 - FRAME_S)
    assert not [one for one in positions if 10.0 <= one < 30.0]
    assert bench.told == ["finished"]
    assert not bench.sender.is_closed
    bench.stream.stop("bye")
    assert bench.stream.step(bench.clock.now()) is None
    bench.stream.close()
    assert bench.told == ["finished", "bye"]


def test_paused_it_sends_nothing_and_goes_on_where_it_was() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.stream.pause()
    assert bench.run(5.0) == []
    bench.stream.play(None, None)
    assert bench.run(0.2)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("scale", "seconds"), [(0.25, 1.0), (0.5, 2.0), (2.0, 8.0), (4.0, 9.9), (8.0, 9.5)])
def test_speed_changes_what_is_seen_and_not_the_clock_of_what_is_sent(scale: float, seconds: float) -> None:
    bench = Bench(spans=((0.0, 100.0),))
    place = bench.stream.play(None, scale)
    wall_s = seconds / scale
    positions = bench.run(wall_s)
    assert (place.seq, place.rtptime) == (0, bench.sender.stamps[0])  # of the first packet after it (B.2.1)
    assert positions[-1] == pytest.approx(seconds, abs=scale * 0.2)
    assert bench.sender.stamps[-1] / 90_000 == pytest.approx(wall_s, abs=0.4)


def test_seeking_begins_with_a_key_frame_and_names_its_first_packet() -> None:
    bench = Bench()
    bench.run(1.0)
    sent = len(bench.sender.stamps)
    place = bench.stream.play(33.0, None)
    assert (place.position_s, place.seq) == (33.0, 2 * sent)
    assert bench.run(0.1)[0] == 33.0
    assert bench.picture.frames[sent][1]


def test_back_goes_by_groups_in_reverse_and_forward_inside_each() -> None:
    bench = Bench(spans=((0.0, 10.0),))
    bench.stream.play(5.0, -1.0)
    positions = bench.run(6.0)
    starts = [at for at, (_, is_key, _) in zip(positions, bench.picture.frames, strict=True) if is_key]
    assert starts == pytest.approx([4.0, 2.0, 0.0])
    first = [one for one in positions if one >= 4.0]
    assert first == sorted(first)
    assert max(first) < 5.0
    assert bench.told == ["finished"]


def test_a_download_is_fast_and_keeps_the_clock_of_the_recording() -> None:
    bench = Bench(speed=4.0, keeps_stamps=True)
    positions = bench.run(6.0)
    assert bench.told == ["finished"]
    assert len(positions) == 250
    assert (bench.sender.stamps[-1] - bench.sender.stamps[0]) / 90_000 == pytest.approx(
        40.0 - FRAME_S, abs=0.01
    )


def device(hours: float = 6.0) -> Device:
    server = Server("31010100002000000001", "127.0.0.1", 5060, "secret")
    row = CameraPlan(id=CODE, recorded_hours=hours)
    config = configs(FleetPlan(server=(server,), camera=(row,)))[0]
    made = Device.of(config.item, config.channels)
    made.recorded = config.recorded
    return made


def test_a_search_honours_its_window_and_its_kind() -> None:
    until = datetime(2026, 5, 19, 20, 0, tzinfo=BEIJING)
    made = device()
    made.recorded = made_up(until, 12.0, random.Random(1))
    kinds = {one.kind for one in made.recorded}
    assert kinds == {"time", "alarm"}

    def found(start: datetime, end: datetime, kind: RecordType) -> list[RecordType]:
        query = RecordInfoQuery(5, CODE, start, end, kind)
        parts = cast(list[RecordInfoResponse], made.recordings(query, is_tcp=False))
        files = [file for part in parts for file in part.files]
        assert {part.sum_num for part in parts} == {len(files)}
        assert all(file.start < end and file.end > start for file in files)
        return [file.kind for file in files]

    hours = timedelta(hours=12)
    everything = found(until - hours, until, RecordType.ALL)
    assert len(everything) == len(made.recorded)
    assert set(found(until - hours, until, RecordType.ALARM)) == {RecordType.ALARM}
    assert len(found(until - timedelta(hours=1), until, RecordType.ALL)) < 4
    assert found(until - hours, until, RecordType.MANUAL) == []
    assert found(until + hours, until + 2 * hours, RecordType.ALL) == []


def test_spans_inside_a_window_join_where_they_touch() -> None:
    def at(minute: int) -> datetime:
        return START + timedelta(minutes=minute)

    recorded = [Recorded(at(0), at(30)), Recorded(at(30), at(60)), Recorded(at(70), at(90))]
    assert within(recorded, at(10), at(80)) == [(0.0, 3000.0), (3600.0, 4200.0)]
    assert COUNTER_PERIOD_S > 18 * 3600
