"""A recording sent out: from any second, at any speed, forward and back, with pauses; then its end is told.

Implements: GB/T 28181-2022 9.8
Implements: GB/T 28181-2022 Annex B

Playback keeps the clock of what is sent running evenly whatever the speed and wherever it jumps, as RTSP
asks; ``keeps_stamps`` leaves the recording's own clock in it, as many recorders do (quirk 54) and as a
download must, so that a file has its true length. Going back sends groups in reverse order and forward
inside each (B.2.8).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tongshi.clock import Clock
from tongshi.protocols.media.g711 import RATE_HZ
from tongshi.testing.clips import FPS
from tongshi.testing.pan_tilt import View
from tongshi.testing.picture import KEY_INTERVAL_S, Picture
from tongshi.testing.recordings import COUNTER_PERIOD_S
from tongshi.testing.stream import FRAME_S, FRAME_TICKS, FrameSender, PictureStream

_POLL_S = 0.04  # how soon a paused stream notices that it may go on
_DENSEST = 4.0  # past this speed frames are left out, as a recorder does
_LONGEST_LAG_S = 0.5
FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Place:
    """The first packet of a new position, as RTP-Info names it."""

    position_s: float
    seq: int
    rtptime: int


class RecordedStream(PictureStream):
    """One recording to one receiver.

    Args:
        start: the moment that position 0 is. spans: what is recorded, seconds from there, in order.
        speed: of a download. keeps_stamps: see above.
        audio: G.711 that loops from position 0 on, sent beside pictures that go forward; empty for none.
        on_finished: told once when the end was reached, on the pacer's thread; the stream then waits.
    """

    def __init__(
        self,
        *,
        open_picture: Callable[[], Picture],
        sender: FrameSender,
        clock: Clock,
        start: datetime,
        spans: Sequence[tuple[float, float]],
        on_finished: Callable[[], None],
        on_end: Callable[[str], None],
        speed: float = 1.0,
        keeps_stamps: bool = False,
        audio: bytes = b"",
    ) -> None:
        super().__init__(open_picture, sender, clock, on_end)
        self._start, self._spans = start, tuple(spans)
        self._on_finished, self._keeps_stamps = on_finished, keeps_stamps
        self._audio = audio
        self._lock = threading.Lock()
        self._scale = speed
        self._position = self._spans[0][0] if self._spans else 0.0
        self._moments: Iterator[tuple[float, bool]] | None = None
        self._is_paused = self._is_told = False
        self._due: float | None = None
        self._pts = 0
        self._packets = 0

    def ask_key_frame(self) -> None:
        """Begin a new group at the next frame; from any thread."""
        with self._lock:
            self._moments = None

    def pause(self) -> None:
        """Send nothing until told to play; from any thread."""
        with self._lock:
            self._is_paused = True

    def play(self, position_s: float | None, scale: float | None) -> Place:
        """Go on, from another position or at another speed when one is named; from any thread."""
        with self._lock:
            self._is_paused = self._is_told = False
            if scale is not None:
                self._scale = scale
            if position_s is not None:
                self._position = position_s
            if scale is not None or position_s is not None:
                self._moments = None
            self._due = None
            stamp = self._pts + (1 if self._keeps_stamps else self._stride_ticks)  # as _send_frame will
            return Place(self._position, self._packets & 0xFFFF, stamp & 0xFFFFFFFF)

    @property
    def length_s(self) -> float:
        """Where the last recorded stretch ends."""
        return self._spans[-1][1] if self._spans else 0.0

    def _send(self, picture: Picture, now: float) -> float:
        with self._lock:
            if self._is_paused or self._is_told:
                self._due = None
                return now + _POLL_S
            moment = self._next_moment()
            if moment is None:
                self._is_told = True
            else:
                self._send_frame(picture, *moment)
                if self._due is None or now - self._due > _LONGEST_LAG_S:
                    self._due = now
                self._due += self._stride_s / abs(self._scale)
                return self._due
        self._on_finished()
        return now + _POLL_S

    def _send_frame(self, picture: Picture, position_s: float, is_key: bool) -> None:
        if self._keeps_stamps:
            self._pts += max(1, round((position_s - self._position) * 90_000))
        else:
            self._pts += self._stride_ticks
        self._position = position_s
        at = self._start + timedelta(seconds=position_s)
        second = math.floor(at.timestamp()) % COUNTER_PERIOD_S
        frame = picture.next(View(), at, force_key=is_key, counter=second)
        self._packets += self._sender.send_video(frame.data, self._pts, frame.is_key)
        if self._audio and self._scale > 0:
            self._packets += self._sender.send_audio(self._sound(position_s), self._pts)

    def _sound(self, position_s: float) -> bytes:
        """From one picture to the next."""
        begin, end = round(position_s * RATE_HZ), round((position_s + self._stride_s) * RATE_HZ)
        loops = self._audio * (2 + (end - begin) // len(self._audio))
        begin_in_loop = begin % len(self._audio)
        return loops[begin_in_loop : begin_in_loop + end - begin]

    @property
    def _stride_s(self) -> float:
        """Recorded time from one frame that is sent to the next."""
        return FRAME_S * max(1.0, abs(self._scale) / _DENSEST)

    @property
    def _stride_ticks(self) -> int:
        """The same in the stream's clock, which runs evenly at every speed."""
        return round(FRAME_TICKS * self._stride_s / FRAME_S / abs(self._scale))

    def _next_moment(self) -> tuple[float, bool] | None:
        if self._moments is None:
            stride_s = self._stride_s
            self._moments = (
                forward(self._spans, self._position, stride_s)
                if self._scale > 0
                else backward(self._spans, self._position, stride_s)
            )
        return next(self._moments, None)


def forward(
    spans: Sequence[tuple[float, float]], position_s: float, stride_s: float
) -> Iterator[tuple[float, bool]]:
    """Positions from one on, gaps left out; (seconds, begins a group)."""
    for begin, end in spans:
        at, is_key = max(begin, position_s), True
        while at < end - 1e-6:
            yield at, is_key
            at, is_key = at + stride_s, False


def backward(
    spans: Sequence[tuple[float, float]], position_s: float, stride_s: float
) -> Iterator[tuple[float, bool]]:
    """Groups in reverse order, forward inside each; of the first only up to the position (B.2.8)."""
    group_s = round(KEY_INTERVAL_S * FPS) / float(FPS)
    for begin, end in reversed(spans):
        top = min(end, position_s)
        if top <= begin:
            continue
        for number in range(math.ceil((top - begin) / group_s) - 1, -1, -1):
            at, is_key = begin + number * group_s, True
            while at < min(top, begin + (number + 1) * group_s) - 1e-6:
                yield at, is_key
                at, is_key = at + stride_s, False
