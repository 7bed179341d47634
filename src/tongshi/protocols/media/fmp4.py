"""Fragmented MP4 of our engine as it passes by: boxes, times, and a track of AAC beside its pictures.

After: ISO/IEC 14496-12 8 (boxes), 14496-14 5.6 (esds)
The engine's track 1 has pictures in ticks of 90 kHz; sound that is put beside them becomes track 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from tongshi.errors import RemoteViolation
from tongshi.protocols.media.adts import RATES_HZ, SAMPLES

TICKS_S: Final = 90_000
MAX_BOX_BYTES: Final = 64 << 20  # one picture and its head; the engine's frames are far smaller

_PICTURES, _SOUND = 1, 2
_HEAD_BYTES: Final = 8
_NUMBER_AT: Final = 20  # in a moof, whose first box is mfhd (8.8.5)
_MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
_KEY_SAMPLE: Final = 0x0200_0000  # it depends on no other (8.8.3.1)


class BoxReader:
    """Takes bytes however they are cut, and gives whole boxes of the outermost level with their heads."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Kind and bytes of every box that is whole now.

        Raises:
            RemoteViolation: a size that is none, or beyond MAX_BOX_BYTES.
        """
        self._rest += data
        while len(self._rest) >= _HEAD_BYTES:
            size, kind = struct.unpack_from(">I4s", self._rest)
            if not _HEAD_BYTES <= size <= MAX_BOX_BYTES:
                raise RemoteViolation("MP4 的 box 大小无效")
            if len(self._rest) < size:
                return
            whole = bytes(self._rest[:size])
            del self._rest[:size]
            yield kind, whole


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents of the boxes that stand side by side, as far as they are whole."""
    found, at = [], 0
    while at + _HEAD_BYTES <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < _HEAD_BYTES:
            break
        found.append((kind, data[at + _HEAD_BYTES : at + size]))
        at += size
    return found


def picture_time(moof: bytes) -> int | None:
    """The decoding time of a fragment of pictures, in ticks; None for any other. ``moof``: its content."""
    for kind, traf in boxes(moof):
        if kind != b"traf":
            continue
        inside = dict(boxes(traf))
        tfhd, tfdt = inside.get(b"tfhd", b""), inside.get(b"tfdt", b"")
        if len(tfhd) < 8 or struct.unpack_from(">I", tfhd, 4)[0] != _PICTURES or len(tfdt) < 8:
            continue
        is_long = tfdt[0] == 1 and len(tfdt) >= 12
        return int(struct.unpack_from(">Q" if is_long else ">I", tfdt, 4)[0])
    return None


def with_sound(moov: bytes, rate_hz: int) -> bytes:
    """A ``moov`` of pictures alone, a whole box, with a track of AAC-LC of one channel besides."""
    inside = []
    for kind, content in boxes(moov[_HEAD_BYTES:]):
        if kind == b"mvex":
            inside.append(_sound_track(rate_hz))
            content += _full(b"trex", 0, 0, struct.pack(">5I", _SOUND, 1, 0, 0, 0))
        inside.append(_box(kind, content))
    return _box(b"moov", b"".join(inside))


def sound_fragment(time: int, frame: bytes) -> bytes:
    """One AAC frame at a time in samples, as ``moof`` and ``mdat``; ``numbered`` gives it its number."""

    def moof(media_at: int) -> bytes:
        sample = struct.pack(">4I", SAMPLES, len(frame), _KEY_SAMPLE, 0)
        traf = (
            _full(b"tfhd", 0, 0x02_0000, struct.pack(">I", _SOUND))  # offsets count from the moof
            + _full(b"tfdt", 1, 0, struct.pack(">Q", time))
            + _full(b"trun", 1, 0xF01, struct.pack(">2I", 1, media_at) + sample)
        )
        return _box(b"moof", _full(b"mfhd", 0, 0, bytes(4)) + _box(b"traf", traf))

    return moof(len(moof(0)) + _HEAD_BYTES) + _box(b"mdat", frame)


def numbered(fragment: bytes, number: int) -> bytes:
    """A fragment that begins with its ``moof``, with another number: they count up in a file (8.8.5)."""
    return fragment[:_NUMBER_AT] + struct.pack(">I", number & 0xFFFF_FFFF) + fragment[_NUMBER_AT + 4 :]


def _sound_track(rate_hz: int) -> bytes:
    volume = 0x0100
    header = struct.pack(">9I", 0, 0, _SOUND, 0, 0, 0, 0, 0, volume << 16) + _MATRIX + bytes(8)
    nowhere_else = _full(b"dref", 0, 0, struct.pack(">I", 1) + _full(b"url ", 0, 1, b""))
    samples = (
        _full(b"stsd", 0, 0, struct.pack(">I", 1) + _sound_entry(rate_hz))
        + _full(b"stts", 0, 0, bytes(4))
        + _full(b"stsc", 0, 0, bytes(4))
        + _full(b"stsz", 0, 0, bytes(8))
        + _full(b"stco", 0, 0, bytes(4))
    )
    media = _full(b"smhd", 0, 0, bytes(4)) + _box(b"dinf", nowhere_else) + _box(b"stbl", samples)
    return _box(
        b"trak",
        _full(b"tkhd", 0, 3, header)
        + _box(
            b"mdia",
            _full(b"mdhd", 0, 0, struct.pack(">5I", 0, 0, rate_hz, 0, 0x55C4_0000))  # language: und
            + _full(b"hdlr", 0, 0, bytes(4) + b"soun" + bytes(13))
            + _box(b"minf", media),
        ),
    )


def _sound_entry(rate_hz: int) -> bytes:
    """mp4a: 16 bits, one channel; its esds names AAC-LC (ISO/IEC 14496-3 1.6.2.1), rates unknown."""
    config = struct.pack(">H", 2 << 11 | RATES_HZ.index(rate_hz) << 7 | 1 << 3)
    descriptor = (
        bytes((3, 25, 0, _SOUND, 0))
        + bytes((4, 17, 0x40, 0x15, 0, 0, 0))
        + bytes(8)
        + bytes((5, len(config)))
        + config
        + bytes((6, 1, 2))
    )
    described = struct.pack(">8x4HI", 1, 16, 0, 0, rate_hz << 16)
    return _box(b"mp4a", bytes(7) + b"\1" + described + _full(b"esds", 0, 0, descriptor))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", _HEAD_BYTES + len(content), kind) + content


def _full(kind: bytes, version: int, flags: int, content: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + content)
