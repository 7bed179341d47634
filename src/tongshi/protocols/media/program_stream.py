"""Program stream files of our own making: one pack a frame, walked by its lengths, given another clock, sent.

Implements: GB/T 28181-2022 C.1
After: ISO/IEC 13818-1 2.5.3, 2.4.3.6
The engine writes such files (container "ps"). Start codes are never searched for, because sound
may contain them; a length leads from packet to packet, and what does not fit is told as such.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tongshi.errors import RemoteViolation

CLOCK_HZ: Final = 90_000
MAX_PACK_BYTES: Final = 16 << 20  # one picture; the engine's cache of a whole group is smaller
RTP_PAYLOAD_BYTES: Final = 1388  # 1400 with its header: relays send packets on as they are, also over UDP
_PACK, _SYSTEM, _MAP = 0xBA, 0xBB, 0xBC
_PACK_HEADER = 14
_VIDEO = range(0xE0, 0xF0)
_WRAP = 1 << 33
_VIDEO_NAMES = {0x10: "mpeg4", 0x1B: "h264", 0x24: "h265", 0x80: "svac"}
_AUDIO_NAMES = {0x90: "g711a", 0x91: "g711u", 0x92: "g722.1", 0x0F: "aac"}


@dataclass(frozen=True, slots=True)
class Pack:
    """One frame as it stands in the file. ``pts`` is in ticks of 90 kHz; a key frame carries the maps."""

    data: bytes
    pts: int
    is_video: bool
    is_key: bool

    @property
    def codecs(self) -> tuple[str, str]:
        """Picture and sound as the map of a key frame names them, empty where there is none."""
        at = self.data.find(b"\0\0\1\xbc", _PACK_HEADER) if self.is_key else -1
        if at < 0:
            return "", ""
        (info,) = struct.unpack_from(">H", self.data, at + 8)
        (size,) = struct.unpack_from(">H", self.data, at + 10 + info)
        entries = self.data[at + 12 + info : at + 12 + info + size]
        types = entries[::4]
        video = next((_VIDEO_NAMES[one] for one in types if one in _VIDEO_NAMES), "")
        return video, next((_AUDIO_NAMES[one] for one in types if one in _AUDIO_NAMES), "")


class PackReader:
    """Cuts bytes into packs, however they come. A pack is known whole when the next begins."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # where the packet looked at begins
        self._violation: RemoteViolation | None = None

    def feed(self, data: bytes) -> list[Pack]:
        """Take what comes next. What is whole before a violation is given out first; the next call raises.

        Raises:
            RemoteViolation: these are no packs, or one is too large.
        """
        if self._violation is not None:
            raise self._violation
        self._data += data
        found: list[Pack] = []
        try:
            self._cut(found)
        except RemoteViolation as violation:
            self._violation = violation
            if not found:
                raise
        return found

    def _cut(self, found: list[Pack]) -> None:
        begin = 0
        while (size := self._packet_size(begin)) is not None:
            if self._at > begin and self._data[self._at + 3] == _PACK:
                found.append(_pack(bytes(self._data[begin : self._at])))
                begin = self._at
            self._at += size
        del self._data[:begin]
        self._at -= begin
        if len(self._data) > MAX_PACK_BYTES:
            raise RemoteViolation("a pack is too large", field="pack")

    def finish(self) -> list[Pack]:
        """The last pack, when its packets are whole; nothing otherwise."""
        data, self._data = bytes(self._data), bytearray()
        is_whole, self._at = bool(data) and self._at == len(data), 0
        return [_pack(data)] if is_whole else []

    def _packet_size(self, begin: int) -> int | None:
        """Bytes of the packet at hand; None until it has come whole."""
        at, data = self._at, self._data
        if len(data) - at < 6:
            return None
        if data[at : at + 3] != b"\0\0\1" or data[at + 3] < _PACK or (at == begin and data[at + 3] != _PACK):
            raise RemoteViolation("no program stream", field="pack")
        if data[at + 3] == _PACK:
            size = _PACK_HEADER + (data[at + 13] & 7) if len(data) - at >= _PACK_HEADER else _PACK_HEADER
        else:
            size = 6 + (data[at + 4] << 8 | data[at + 5])
        return size if len(data) - at >= size else None


def restamp(pack: Pack, pts: int) -> bytes:
    """The pack with another time; decoding time and clock reference move by as much."""
    data, shift = bytearray(pack.data), pts - pack.pts
    _write_scr(data, pts)
    at = _PACK_HEADER + (data[13] & 7)
    while at + 6 <= len(data):
        if data[at + 3] > _MAP and data[at + 7] & 0x80:
            data[at + 9 : at + 14] = _time(data[at + 9] >> 4, _read_time(data, at + 9) + shift)
            if data[at + 7] & 0x40:
                decoded = _read_time(data, at + 14) + shift
                data[at + 14 : at + 19] = _time(1, decoded)
                _write_scr(data, decoded)
        at += 6 + (data[at + 4] << 8 | data[at + 5])
    return bytes(data)


class Packetizer:
    """Packs as RTP packets behind two length bytes each (Annex D), the marker on the last of a frame."""

    def __init__(self, ssrc: int, payload_type: int = 96) -> None:
        self._ssrc, self._payload_type = ssrc, payload_type
        self.sequence = 0

    def frame(self, data: bytes, pts: int) -> bytes:
        """All packets of one frame."""
        out: list[bytes] = []
        for at in range(0, len(data), RTP_PAYLOAD_BYTES):
            part = data[at : at + RTP_PAYLOAD_BYTES]
            marker = 0x80 if at + RTP_PAYLOAD_BYTES >= len(data) else 0
            out.append(
                struct.pack(
                    ">HBBHII",
                    12 + len(part),
                    0x80,
                    marker | self._payload_type,
                    self.sequence,
                    pts & 0xFFFFFFFF,
                    self._ssrc,
                )
            )
            out.append(part)
            self.sequence = (self.sequence + 1) & 0xFFFF
        return b"".join(out)


def _pack(data: bytes) -> Pack:
    at, is_key, pts, is_video = _PACK_HEADER + (data[13] & 7), False, None, False
    while at + 6 <= len(data):
        kind = data[at + 3]
        if kind == _MAP:
            is_key = True
        elif kind > _MAP:
            is_video = kind in _VIDEO
            if at + 14 <= len(data) and data[at + 7] & 0x80:
                pts = _read_time(data, at + 9)
            break
        at += 6 + (data[at + 4] << 8 | data[at + 5])
    if pts is None:
        raise RemoteViolation("a pack without a time", field="pts")
    return Pack(data, pts, is_video, is_key and is_video)


def _read_time(data: bytes | bytearray, at: int) -> int:
    return (
        (data[at] & 0x0E) << 29
        | data[at + 1] << 22
        | (data[at + 2] & 0xFE) << 14
        | data[at + 3] << 7
        | data[at + 4] >> 1
    )


def _time(mark: int, ticks: int) -> bytes:
    ticks %= _WRAP
    return bytes(
        (
            mark << 4 | (ticks >> 29) & 0x0E | 1,
            (ticks >> 22) & 0xFF,
            (ticks >> 14) & 0xFE | 1,
            (ticks >> 7) & 0xFF,
            (ticks << 1) & 0xFE | 1,
        )
    )


def _write_scr(data: bytearray, ticks: int) -> None:
    ticks %= _WRAP
    fields = (
        1 << 46
        | (ticks >> 30) << 43
        | 1 << 42
        | (ticks >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (ticks & 0x7FFF) << 11
        | 1 << 10
        | 1
    )
    data[4:10] = fields.to_bytes(6, "big")
