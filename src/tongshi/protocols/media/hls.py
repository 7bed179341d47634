"""Parts of fragmented MP4 put into segments, and the playlist that tells of them; no I/O.

The engine cuts parts of at most half a second, before each key frame too. A segment begins with a key frame;
a group of pictures longer than ``TARGET_S`` is cut into several, of which only the first begins with one, so
that the target that players were told stays true. After RFC 8216bis (low-latency HLS): partial segments,
blocking reload, preload hint; a player that knows none of them reads the same playlist.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Final

TARGET_S: Final = 4  # a segment lasts no longer, rounded
PART_TARGET_S: Final = 0.5
MIN_SEGMENT_S: Final = 1.5  # a camera with a key frame every half second does not make a playlist of crumbs
LISTED_SEGMENTS: Final = 6
KEPT_SEGMENTS: Final = 9  # what was listed a moment ago may still be fetched
LISTED_PARTS_OF: Final = 3  # parts are told of the newest segments only
MAX_RING_BYTES: Final = 32 << 20
MAX_AHEAD: Final = 2  # a reload that asks for a segment further ahead is a mistake (RFC 8216bis 6.2.5.2)
TICKS_S: Final = 90_000
PART_HEAD: Final = struct.Struct(">II")  # length in ticks, flags
FLAG_KEY: Final = 1
FLAG_INIT: Final = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A fraction of a segment."""

    data: bytes
    length_s: float
    is_independent: bool


@dataclass(slots=True)
class Segment:
    """A segment and the init segment that it needs; the newest of a ring is still growing."""

    number: int
    init: int
    is_break: bool  # its decoder configuration is another than that of the one before
    parts: list[Part] = field(default_factory=list)

    @property
    def length_s(self) -> float:
        return sum(part.length_s for part in self.parts)

    @property
    def size_bytes(self) -> int:
        return sum(len(part.data) for part in self.parts)


class PartRing:
    """The newest segments of one stream, bounded in number and bytes."""

    def __init__(self) -> None:
        self._segments: deque[Segment] = deque()
        self._inits: dict[int, bytes] = {}
        self._init = -1
        self._breaks_gone = 0
        self.is_over = False

    @property
    def newest(self) -> tuple[int, int]:
        """Number of the growing segment and of its last part; (-1, -1) before the first."""
        if not self._segments:
            return -1, -1
        return self._segments[-1].number, len(self._segments[-1].parts) - 1

    def begin(self, init: bytes) -> None:
        """Take an init segment; what follows is decoded with it."""
        self._init += 1
        self._inits[self._init] = init

    def add(self, message: bytes) -> None:
        """Take a part as the engine gives it. Raises ValueError: it is none."""
        if len(message) <= PART_HEAD.size:
            raise ValueError("part")
        ticks, flags = PART_HEAD.unpack_from(message)
        data, is_key = message[PART_HEAD.size :], bool(flags & FLAG_KEY)
        if flags & FLAG_INIT:
            end = _end_of_init(data)
            self.begin(data[:end])
            data = data[end:]
        part = Part(data, ticks / TICKS_S, is_key)
        if self._begins_segment(part):
            number = self._segments[-1].number + 1 if self._segments else 0
            is_break = bool(self._segments) and self._segments[-1].init != self._init
            self._segments.append(Segment(number, self._init, is_break))
        self._segments[-1].parts.append(part)
        self._forget()

    def has(self, number: int, part: int | None) -> bool:
        """Whether a reload for this segment, or this part of it, can be answered."""
        newest, last = self.newest
        return self.is_over or number < newest or (number == newest and part is not None and part <= last)

    def is_too_far(self, number: int) -> bool:
        """Whether nobody who read our playlist asks for this segment yet."""
        return number > max(self.newest[0], 0) + MAX_AHEAD

    def init(self, number: int) -> bytes | None:
        return self._inits.get(number)

    def segment(self, number: int) -> bytes | None:
        """A whole segment; None while it grows and when it is forgotten."""
        found = self._find(number)
        if found is None or (number == self.newest[0] and not self.is_over):
            return None
        return b"".join(part.data for part in found.parts)

    def part(self, number: int, index: int) -> bytes | None:
        found = self._find(number)
        return found.parts[index].data if found is not None and 0 <= index < len(found.parts) else None

    def playlist(self, query: str) -> str:
        """The playlist; ``query`` is put behind every address in it. There must be a part."""
        listed = list(self._segments)[-LISTED_SEGMENTS - 1 :]
        gone = list(self._segments)[: -len(listed)]
        longest_s = max((part.length_s for one in self._segments for part in one.parts), default=0.0)
        part_target_s = max(PART_TARGET_S, math.ceil(longest_s * 10) / 10)
        breaks = self._breaks_gone + sum(one.is_break for one in [*gone, listed[0]])
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            f"#EXT-X-TARGETDURATION:{max(TARGET_S, math.ceil(part_target_s))}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={3 * part_target_s:.3f}",
            f"#EXT-X-PART-INF:PART-TARGET={part_target_s:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{breaks}",
        ]
        for place, segment in enumerate(listed):
            if segment.is_break and place:
                lines.append("#EXT-X-DISCONTINUITY")
            if not place or segment.is_break:
                lines.append(f'#EXT-X-MAP:URI="init-{segment.init}.mp4{query}"')
            if len(listed) - place <= LISTED_PARTS_OF:
                lines += _part_lines(segment, query)
            if segment is not listed[-1] or self.is_over:
                lines += [f"#EXTINF:{segment.length_s:.5f},", f"{segment.number}.m4s{query}"]
        if self.is_over:
            lines.append("#EXT-X-ENDLIST")
        else:
            number, last = self.newest
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{number}.{last + 1}.m4s{query}"')
        return "\n".join(lines) + "\n"

    def _begins_segment(self, part: Part) -> bool:
        if not self._segments or self._segments[-1].init != self._init:
            return True
        length_s = self._segments[-1].length_s
        is_long = length_s + part.length_s >= TARGET_S + 0.5  # would be rounded up
        return is_long or (part.is_independent and length_s >= MIN_SEGMENT_S)

    def _forget(self) -> None:
        size = sum(one.size_bytes for one in self._segments)
        while len(self._segments) > 1 and (len(self._segments) > KEPT_SEGMENTS or size > MAX_RING_BYTES):
            gone = self._segments.popleft()
            size -= gone.size_bytes
            self._breaks_gone += gone.is_break
        needed = {one.init for one in self._segments}
        for number in [one for one in self._inits if one not in needed]:
            del self._inits[number]

    def _find(self, number: int) -> Segment | None:
        return next((one for one in self._segments if one.number == number), None)


def _part_lines(segment: Segment, query: str) -> list[str]:
    lines = []
    for index, part in enumerate(segment.parts):
        line = f'#EXT-X-PART:DURATION={part.length_s:.5f},URI="{segment.number}.{index}.m4s{query}"'
        lines.append(line + (",INDEPENDENT=YES" if part.is_independent else ""))
    return lines


def _end_of_init(data: bytes) -> int:
    """Where ftyp and moov end."""
    at = 0
    for kind in (b"ftyp", b"moov"):
        if data[at + 4 : at + 8] != kind or (size := int.from_bytes(data[at : at + 4], "big")) < 8:
            raise ValueError("init segment")
        at += size
    if at >= len(data):
        raise ValueError("init segment")
    return at
