"""Pictures of our engine and sound that is coded anew, put into one fragmented MP4 in the order of time.

The sound of a moment comes later than its pictures, because a process makes it; so pictures wait for it, but
no longer than ``HOLD_S`` and no more than ``MAX_HELD_BYTES`` of them: sound that comes later still is written
where it comes, with its true time. Until it is decided whether there is sound at all everything waits,
because the head of a file names its tracks. Pictures pass unchanged; the fragments are numbered anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from tongshi.protocols.media.adts import SAMPLES
from tongshi.protocols.media.fmp4 import (
    TICKS_S,
    BoxReader,
    numbered,
    picture_time,
    sound_fragment,
    with_sound,
)

HOLD_S: Final = 5.0
MAX_HELD_BYTES: Final = 32 << 20
MAX_HELD_SOUNDS: Final = 4_096  # four minutes of frames whose pictures have not come


@dataclass(frozen=True, slots=True)
class _Piece:
    """A fragment, or what stands beside them (``time`` None), and when it came."""

    data: bytes
    time: int | None
    since: float


class Interleaver:
    """Takes both, and gives what may be written. ``now`` is in seconds and never goes back."""

    def __init__(self) -> None:
        self._raw: list[bytes] = []  # while it is undecided, or when there is no sound
        self._reader: BoxReader | None = None  # once there is
        self._rate_hz = 0
        self._moof = b""
        self._pictures: deque[_Piece] = deque()
        self._sounds: deque[tuple[int, bytes]] = deque()
        self._held_bytes = 0
        self._is_decided = self._is_over = self._has_head = self._has_track = False
        self._end: int | None = None  # of the sound taken, in samples
        self._number = 0

    @property
    def held_bytes(self) -> int:
        """Pictures that wait."""
        return self._held_bytes

    @property
    def sound_s(self) -> float | None:
        """Where the sound ends, on the clock of the pictures; None before the first."""
        return None if self._end is None else self._end / self._rate_hz

    def pictures(self, data: bytes, now: float) -> None:
        """More of the file of pictures. Raises RemoteViolation: it is none."""
        self._held_bytes += len(data)
        if self._reader is None:
            self._raw.append(data)
        else:
            self._split(self._reader, data, now)

    def sound(self, time: int, frame: bytes) -> None:
        """An AAC frame at its time in samples. They follow each other; a difference of half of one is real.

        Of sound that runs ahead of its own times a frame is left out, so that both never part by a whole one.
        """
        ahead = 0 if self._end is None else time - self._end
        if ahead <= -SAMPLES:
            return
        if self._end is not None and ahead < SAMPLES // 2:
            time = self._end
        self._sounds.append((time, frame))
        self._end = time + SAMPLES

    def silent(self) -> None:
        """There is no sound beside the pictures: they are written as they are."""
        self._is_decided = True

    def sounding(self, rate_hz: int, now: float) -> None:
        """There is sound, of that many samples a second. Raises RemoteViolation: what came is no MP4."""
        self._is_decided, self._rate_hz, self._reader = True, rate_hz, BoxReader()
        raw, self._raw = b"".join(self._raw), []
        self._split(self._reader, raw, now)

    def sound_over(self) -> None:
        """No more of it comes."""
        self._is_over = True

    def take(self, now: float) -> bytes:
        """All that may be written now."""
        if not self._is_decided:
            return b""
        if self._reader is None:
            out, self._raw, self._held_bytes = b"".join(self._raw), [], 0
            return out
        return b"".join(self._merged(now))

    def _split(self, reader: BoxReader, data: bytes, now: float) -> None:
        for kind, box in reader.feed(data):
            if kind == b"moof":
                self._moof = box
                continue
            time = picture_time(self._moof[8:]) if self._moof else None
            self._pictures.append(_Piece(self._moof + box, time, now))
            self._moof = b""

    def _merged(self, now: float) -> list[bytes]:
        out: list[bytes] = []
        while True:
            if self._pictures and self._is_due(self._pictures[0], now):
                out.append(self._picture(self._pictures.popleft()))
            elif self._has_head and self._sounds and self._is_sound_due():
                out.append(self._numbered(sound_fragment(*self._sounds.popleft())))
            else:
                return out

    def _is_due(self, piece: _Piece, now: float) -> bool:
        """Whether all that stands before it is written, or no longer waited for."""
        is_waiting = now - piece.since < HOLD_S and self._held_bytes <= MAX_HELD_BYTES and not self._is_over
        if piece.time is None:
            return self._has_head or not is_waiting or bool(self._sounds)
        if self._has_track and self._sounds:
            return self._sounds[0][0] * TICKS_S > piece.time * self._rate_hz
        is_passed = self._end is not None and self._end * TICKS_S > piece.time * self._rate_hz
        return is_passed or not is_waiting

    def _is_sound_due(self) -> bool:
        """Whether a picture of its time or a later one is there; at the end the rest follows."""
        return bool(self._pictures) or self._is_over or len(self._sounds) > MAX_HELD_SOUNDS

    def _picture(self, piece: _Piece) -> bytes:
        self._held_bytes -= len(piece.data)
        if piece.time is not None:
            return self._numbered(piece.data)
        if piece.data[4:8] != b"moov":
            return piece.data
        if not self._has_head:
            self._has_head = True
            self._has_track = bool(self._sounds) or not self._is_over
        return with_sound(piece.data, self._rate_hz) if self._has_track else piece.data

    def _numbered(self, fragment: bytes) -> bytes:
        self._number += 1
        return numbered(fragment, self._number)
