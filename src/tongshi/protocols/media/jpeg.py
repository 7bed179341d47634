"""Whether bytes are a JPEG picture, and how large it is: told by its own markers, nothing is decoded.

Implements: GB/T 28181-2022 9.14
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tongshi.errors import RemoteViolation

MAX_SIDE: Final = 16_384
MAX_PIXELS: Final = 100_000_000
MAX_SEGMENTS: Final = 1_000  # before the picture itself

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN: Final = 0xDA
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


def measure(data: bytes) -> Size:
    """Find the frame header of a picture that is whole: start, frame, scan, end.

    Raises:
        RemoteViolation: no JPEG, cut short, or larger than MAX_SIDE or MAX_PIXELS.
    """
    if not data.startswith(_START):
        raise RemoteViolation("不是 JPEG 图像")
    size: Size | None = None
    at = len(_START)
    for _ in range(MAX_SEGMENTS):
        marker, at = _marker(data, at)
        if marker in _ALONE:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end < at + 2 or end > len(data):
            raise RemoteViolation("JPEG 图像不完整")
        if marker == _SCAN:
            if size is None or data.find(_END, end) < 0:
                raise RemoteViolation("JPEG 图像不完整")
            return size
        if marker in _FRAMES:
            size = _size(data[at:end])
        at = end
    raise RemoteViolation("JPEG 图像头部过长")


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at a place, and where it ends; fill bytes may stand before it."""
    if data[at : at + 1] != b"\xff":
        raise RemoteViolation("JPEG 图像不完整")
    while data[at : at + 1] == b"\xff":
        at += 1
    if at >= len(data) or data[at] in (0x00, 0xD8, 0xD9):
        raise RemoteViolation("JPEG 图像不完整")
    return data[at], at + 1


def _size(segment: bytes) -> Size:
    """Length, precision, height, width, components."""
    if len(segment) < 8:
        raise RemoteViolation("JPEG 图像不完整")
    height, width = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[5:7], "big")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise RemoteViolation(f"JPEG 图像尺寸 {width}x{height} 超出范围")
    return Size(width, height)
