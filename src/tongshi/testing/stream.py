"""Many live pictures paced by a few threads: each frame is drawn, coded and sent when it is due.

A job belongs to one thread at a time, so that a picture and its sender need no lock. The coder and the socket
work without the interpreter lock. A stream that fell behind leaves frames out; it never hurries, because a
real camera's clock does not either.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from tongshi.clock import Clock
from tongshi.testing.clips import FPS
from tongshi.testing.pan_tilt import Head
from tongshi.testing.picture import Picture

log = structlog.get_logger(__name__)

FRAME_S = float(1 / FPS)
FRAME_TICKS = int(90_000 / FPS)
AUDIO_BYTES_A_FRAME = int(8_000 / FPS)
_LONGEST_LAG_S = 0.5


class FrameSender(Protocol):
    """What a stream needs of ``tongshi._media.PsSender``."""

    @property
    def local_port(self) -> int: ...
    def connect(self, host: str, port: int) -> None: ...
    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int: ...
    def send_audio(self, payload: bytes, pts_90k: int) -> int: ...
    def close(self) -> None: ...


class Job(Protocol):
    """Something to be done again and again."""

    def step(self, now: float) -> float | None:
        """Do it once; the time of the next step, or None to end. Must not raise."""
        ...

    def close(self) -> None:
        """Release everything; called exactly once, by the pacer, after the last step."""
        ...


class Pacer:
    """Runs jobs at their times on ``threads`` threads, which live from the first job to ``close``."""

    def __init__(self, clock: Clock, threads: int = 2) -> None:
        self._clock, self._count = clock, threads
        self._threads: list[threading.Thread] = []
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Job]] = []
        self._serial = 0
        self._is_closing = False

    def add(self, job: Job) -> None:
        """Run the job from now on. After ``close`` it is closed at once."""
        with self._wake:
            if not self._is_closing:
                self._push(self._clock.now(), job)
                self._start_threads()
                return
        job.close()

    def close(self) -> None:
        """Join the threads, then close every job that is left."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        while self._due:
            heapq.heappop(self._due)[2].close()

    def _start_threads(self) -> None:
        while len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"camera-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _push(self, due: float, job: Job) -> None:
        self._serial += 1
        heapq.heappush(self._due, (due, self._serial, job))
        self._wake.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            due = job.step(self._clock.now())
            if due is None:
                job.close()
                continue
            with self._wake:
                self._push(due, job)

    def _next(self) -> Job | None:
        with self._wake:
            while not self._is_closing:
                if not self._due:
                    self._wake.wait()
                    continue
                wait_s = self._due[0][0] - self._clock.now()
                if wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._wake.wait(wait_s)
        return None


class PictureStream:
    """A picture on its way to one receiver, as a job of a pacer; what fails of it ends it alone.

    Args:
        open_picture: called on the pacer's thread, because opening a coder takes milliseconds.
        sender: where frames go; closed by the stream.
        on_end: told once why the stream ended, after its sender was closed, on the pacer's thread.
    """

    def __init__(
        self,
        open_picture: Callable[[], Picture],
        sender: FrameSender,
        clock: Clock,
        on_end: Callable[[str], None],
    ) -> None:
        self._open_picture, self._sender, self._clock, self._on_end = open_picture, sender, clock, on_end
        self._picture: Picture | None = None
        self._reason = ""

    def stop(self, reason: str = "stopped") -> None:
        """End with the next step; from any thread."""
        self._reason = self._reason or reason

    def step(self, now: float) -> float | None:
        """Send the frame that is due."""
        try:
            if self._reason:
                return None
            if self._picture is None:
                self._picture = self._open_picture()
                now = self._clock.now()
            return self._send(self._picture, now)
        except OSError as error:
            self.stop(f"receiver: {error}")
        except BaseException as error:  # also a panic of the engine; other cameras go on
            log.exception("camera_stream_failed")
            self.stop(f"failed: {error}")
        return None

    def close(self) -> None:
        """Release the coder and the socket."""
        self._sender.close()
        self._picture = None
        self._on_end(self._reason or "closed")

    def _send(self, picture: Picture, now: float) -> float | None:
        """Send what is due; the time of the next."""
        raise NotImplementedError


class LiveStream(PictureStream):
    """What a camera sees now, to one receiver.

    Args:
        head: where the camera looks.
        audio: A-law bytes to loop, empty for none.
    """

    def __init__(
        self,
        *,
        open_picture: Callable[[], Picture],
        head: Head,
        sender: FrameSender,
        clock: Clock,
        on_end: Callable[[str], None],
        audio: bytes = b"",
    ) -> None:
        super().__init__(open_picture, sender, clock, on_end)
        self._head, self._audio = head, audio
        self._start: float | None = None
        self._number = 0  # of the next frame by time, left-out ones counted
        self._wants_key = threading.Event()

    def ask_key_frame(self) -> None:
        """Make the next frame a key frame; from any thread."""
        self._wants_key.set()

    def _send(self, picture: Picture, now: float) -> float:
        if self._start is None:
            self._start = now
        behind_s = now - (self._start + self._number * FRAME_S)
        if behind_s > _LONGEST_LAG_S:
            self._number += int(behind_s / FRAME_S)
        force_key = self._wants_key.is_set()
        self._wants_key.clear()
        frame = picture.next(self._head.view(now), self._clock.at(), force_key=force_key)
        pts = self._number * FRAME_TICKS
        self._sender.send_video(frame.data, pts, frame.is_key)
        if self._audio:
            self._sender.send_audio(self._sound(), pts)
        self._number += 1
        return self._start + self._number * FRAME_S

    def _sound(self) -> bytes:
        begin = self._number * AUDIO_BYTES_A_FRAME % len(self._audio)
        part = self._audio[begin : begin + AUDIO_BYTES_A_FRAME]
        return part + self._audio[: AUDIO_BYTES_A_FRAME - len(part)]
