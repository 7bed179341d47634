"""A live stream leaves at its true pace and releases what it holds."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tongshi.clock import ManualClock, SystemClock
from tongshi.testing.pan_tilt import Head, View
from tongshi.testing.picture import CodedFrame, Picture
from tongshi.testing.stream import AUDIO_BYTES_A_FRAME, FRAME_S, FRAME_TICKS, LiveStream, Pacer


class FakePicture:
    def __init__(self) -> None:
        self.forced: list[bool] = []

    def next(self, view: View, at: datetime, *, force_key: bool = False) -> CodedFrame:
        assert at.tzinfo is UTC
        self.forced.append(force_key)
        return CodedFrame(b"frame", force_key)


class FakeSender:
    local_port = 1

    def __init__(self) -> None:
        self.video: list[int] = []
        self.audio: list[bytes] = []
        self.is_closed = False
        self.error: BaseException | None = None

    def connect(self, host: str, port: int) -> None: ...

    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        if self.error:
            raise self.error
        self.video.append(pts_90k)
        return 1

    def send_audio(self, payload: bytes, pts_90k: int) -> int:
        self.audio.append(payload)
        return 1

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """One stream on a hand-moved clock."""

    def __init__(self, audio: bytes = b"") -> None:
        self.clock, self.sender, self.picture = ManualClock(), FakeSender(), FakePicture()
        self.ends: list[str] = []
        self.stream = LiveStream(
            open_picture=lambda: cast(Picture, self.picture),
            head=Head(),
            sender=self.sender,
            clock=self.clock,
            on_end=self.ends.append,
            audio=audio,
        )

    def run(self, frames: int) -> None:
        for _ in range(frames):
            due = self.stream.step(self.clock.now())
            assert due is not None
            self.clock.seconds = due


def test_frames_are_an_even_eighty_milliseconds_apart() -> None:
    bench = Bench()
    begin = bench.clock.now()
    bench.run(50)
    assert bench.sender.video == [n * FRAME_TICKS for n in range(50)]
    assert bench.clock.now() - begin == pytest.approx(50 * FRAME_S)


def test_a_late_stream_leaves_frames_out_and_does_not_hurry() -> None:
    bench = Bench()
    bench.run(5)
    bench.clock.advance(2.0)
    bench.run(2)
    assert bench.sender.video[-2:] == [30 * FRAME_TICKS, 31 * FRAME_TICKS]


def test_sound_runs_on_without_gap_over_the_end_of_its_loop() -> None:
    sound = bytes(range(250)) * 4  # 1,000 bytes: not a multiple of a frame's share
    bench = Bench(sound)
    bench.run(10)
    played = b"".join(bench.sender.audio)
    assert played == (sound * 7)[: 10 * AUDIO_BYTES_A_FRAME]


def test_a_key_frame_asked_for_is_the_next_one_only() -> None:
    bench = Bench()
    bench.run(1)
    bench.stream.ask_key_frame()
    bench.run(2)
    assert bench.picture.forced == [False, True, False]


def test_a_receiver_that_left_ends_the_stream_with_its_reason() -> None:
    bench = Bench()
    bench.run(2)
    bench.sender.error = BrokenPipeError("gone")
    assert bench.stream.step(bench.clock.now()) is None
    bench.stream.close()
    assert bench.ends == ["receiver: gone"]
    assert bench.sender.is_closed


class Panic(BaseException):
    """As the engine's panics arrive: no Exception."""


@pytest.mark.parametrize("error", [ValueError("bug"), Panic("bug")])
def test_a_bug_in_one_picture_ends_only_its_stream(error: BaseException) -> None:
    bench = Bench()
    bench.sender.error = error
    assert bench.stream.step(bench.clock.now()) is None
    bench.stream.close()
    assert bench.ends == ["failed: bug"]


class Counted:
    """A job that ends after some steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.threads = steps, set[Any]()
        self.closed = threading.Event()

    def step(self, now: float) -> float | None:
        self.left -= 1
        self.threads.add(threading.current_thread())
        return now if self.left > 0 else None

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


def test_the_pacer_runs_many_jobs_to_their_end_and_leaves_no_thread() -> None:
    pacer = Pacer(SystemClock(), threads=2)
    jobs = [Counted(20) for _ in range(50)]
    for job in jobs:
        pacer.add(job)
    assert all(job.closed.wait(5.0) for job in jobs)
    pacer.close()
    assert not any(thread.is_alive() for job in jobs for thread in job.threads)


def test_closing_the_pacer_closes_jobs_that_still_run_and_refuses_new_ones() -> None:
    pacer = Pacer(SystemClock(), threads=1)
    endless, late = Counted(10**9), Counted(1)
    pacer.add(endless)
    pacer.close()
    pacer.add(late)
    assert endless.closed.is_set()
    assert late.closed.is_set()
