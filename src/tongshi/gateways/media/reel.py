"""The groups of pictures of a device's own recordings within a window, read one by one, forward and back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tongshi.errors import RemoteViolation
from tongshi.protocols.media.program_stream import CLOCK_HZ, Pack, PackReader
from tongshi.resources.recordings.model import Segment

MAX_GROUP_BYTES = 64 << 20
TOUCHING_S = 1.0  # segments that follow each other within this are one recording


class Files(Protocol):
    """Where segments are read from."""

    async def read(self, segment: Segment, offset: int, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Group:
    """A key frame and what follows it until the next. ``follows`` says that nothing is missing before it."""

    segment: Segment
    offset: int
    size: int
    at_s: float
    end_s: float
    follows: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame, how many seconds after the window's start it was taken, and whether it follows a jump."""

    pack: Pack
    at_s: float
    jumps: bool


class Reel:
    """What is played of one window.

    Args:
        segments: in order of time, with their key frames.
        start: the moment that position 0 is. length_s: what begins at or after it is not played.
    """

    def __init__(self, files: Files, segments: Sequence[Segment], start: datetime, length_s: float) -> None:
        self._files = files
        self.length_s = length_s
        self.groups = _groups(segments, start, length_s)
        self._starts = [group.at_s for group in self.groups]

    @property
    def size_bytes(self) -> int:
        return sum(group.size for group in self.groups)

    def group_at(self, position_s: float) -> int:
        """The group that holds a position; in a gap the one behind it. May be past the last."""
        found = max(0, bisect_right(self._starts, position_s) - 1)
        if found < len(self.groups) and self.groups[found].end_s <= position_s:
            found += 1
        return found

    async def forward(self, position_s: float, *, keys_only: bool) -> AsyncIterator[Shown]:
        """Frames from the key frame before a position on."""
        for number in range(self.group_at(position_s), len(self.groups)):
            async for shown in self._of(self.groups[number], keys_only=keys_only):
                if shown.at_s >= self.length_s and shown.pack.is_video:
                    return
                yield shown

    async def backward(self, position_s: float) -> AsyncIterator[Shown]:
        """Key frames before a position, the latest first."""
        jumps = False
        for number in range(bisect_right(self._starts, position_s) - 1, -1, -1):
            async for shown in self._of(self.groups[number], keys_only=True):
                yield replace(shown, jumps=jumps)
            jumps = not self.groups[number].follows

    async def _of(self, group: Group, *, keys_only: bool) -> AsyncIterator[Shown]:
        data = await self._files.read(group.segment, group.offset, min(group.size, MAX_GROUP_BYTES))
        reader = PackReader()
        packs = reader.feed(data)
        packs += reader.finish()
        if not packs or not packs[0].is_key:
            raise RemoteViolation("a group without its key frame", field="recording")
        first = packs[0].pts
        for pack in packs[:1] if keys_only else packs:
            yield Shown(
                pack, group.at_s + (pack.pts - first) / CLOCK_HZ, pack is packs[0] and not group.follows
            )


def _groups(segments: Sequence[Segment], start: datetime, length_s: float) -> list[Group]:
    found: list[Group] = []
    end_s = float("-inf")
    for segment in segments:
        begin_s = (segment.start - start).total_seconds()
        until_s = (segment.end - start).total_seconds()
        frames = segment.key_frames
        for place, frame in enumerate(frames):
            is_last = place + 1 == len(frames)
            after = segment.size_bytes if is_last else frames[place + 1].offset
            group_end_s = until_s if is_last else begin_s + frames[place + 1].at_ms / 1000
            at_s = begin_s + frame.at_ms / 1000
            if group_end_s <= 0 or at_s >= length_s or after <= frame.offset:
                continue
            follows = place > 0 or at_s - end_s <= TOUCHING_S
            found.append(Group(segment, frame.offset, after - frame.offset, at_s, group_end_s, follows))
            end_s = group_end_s
    return found
