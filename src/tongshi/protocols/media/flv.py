"""FLV as our engine writes it, read again: tags, and what stands in a video or sound tag.

Not here: FLV of others. H.264 stands in it as AVC, H.265 as ``hvc1`` of Enhanced RTMP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tongshi.errors import RemoteViolation

SOUND: Final = 8
VIDEO: Final = 9
MAX_TAG_BYTES: Final = 8 * 1024 * 1024

_FILE_HEAD: Final = 13  # the header and the size of no tag before it
_TAG_HEAD: Final = 11
_SOUNDS: Final = {10: "aac", 7: "g711a", 8: "g711u"}


@dataclass(frozen=True, slots=True)
class VideoTag:
    """One picture, or how to decode those that follow (``is_config``); NAL units have lengths of 4 bytes."""

    codec: str
    is_key: bool
    is_config: bool
    shift_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SoundTag:
    """Some sound, or how to decode what follows."""

    codec: str
    is_config: bool
    data: bytes


class FlvReader:
    """Takes bytes however they are cut, and gives whole tags."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Kind, time in milliseconds and content of every tag that is whole now.

        Raises:
            RemoteViolation: no FLV, or a tag beyond MAX_TAG_BYTES.
        """
        self._rest += data
        if not self._is_begun:
            if len(self._rest) < _FILE_HEAD:
                return
            if not self._rest.startswith(b"FLV\x01"):
                raise RemoteViolation("不是 FLV")
            del self._rest[:_FILE_HEAD]
            self._is_begun = True
        while len(self._rest) >= _TAG_HEAD:
            size = int.from_bytes(self._rest[1:4], "big")
            if size > MAX_TAG_BYTES:
                raise RemoteViolation("FLV 标签过大")
            end = _TAG_HEAD + size
            if len(self._rest) < end + 4:
                return
            time_ms = int.from_bytes(self._rest[4:7], "big") | self._rest[7] << 24
            tag = self._rest[0] & 0x1F, time_ms, bytes(self._rest[_TAG_HEAD:end])
            del self._rest[: end + 4]
            yield tag


def video_of(content: bytes) -> VideoTag | None:
    """What a video tag holds; None when it is of no use (an end of sequence, another codec)."""
    if len(content) < 5:
        return None
    is_key = content[0] >> 4 & 0x07 == 1
    if content[0] & 0x80:
        if content[1:5] != b"hvc1":
            return None
        kind = content[0] & 0x0F
        if kind == 1:
            return VideoTag("h265", is_key, False, _signed(content[5:8]), content[8:])
        return VideoTag("h265", is_key, kind == 0, 0, content[5:]) if kind in (0, 3) else None
    if content[0] & 0x0F != 7 or content[1] > 1:
        return None
    return VideoTag("h264", is_key, content[1] == 0, _signed(content[2:5]), content[5:])


def sound_of(content: bytes) -> SoundTag | None:
    """What a sound tag holds; None for a codec that we do not carry."""
    codec = _SOUNDS.get(content[0] >> 4) if content else None
    if codec is None:
        return None
    if codec != "aac":
        return SoundTag(codec, False, content[1:])
    return SoundTag(codec, content[1:2] == b"\0", content[2:])


def _signed(three: bytes) -> int:
    return int.from_bytes(three, "big", signed=True)
