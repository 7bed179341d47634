"""Capture files in the classic libpcap format, made of messages that were never captured as packets.

A SIP message is kept as its bytes, its time and the two ends of its socket. Each becomes one IP packet (over
TCP as many as it needs) with right lengths, addresses, ports, sequence numbers and checksums, so that
Wireshark shows the conversation as if it had been recorded on the wire. What is not known is not invented:
there is no link layer (LINKTYPE_RAW) and no TCP handshake.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

MEDIA_TYPE: Final = "application/vnd.tcpdump.pcap"

_MAGIC: Final = 0xA1B2C3D4  # microseconds
_LINKTYPE_RAW: Final = 101
_SNAP_BYTES: Final = 262_144
_TCP_SEGMENT_BYTES: Final = 32_000
_MAX_DATAGRAM_BYTES: Final = 65_000
_UDP, _TCP = 17, 6
_PUSH_ACK: Final = 0x18
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a socket: a numeric address and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Packet:
    """One message on the wire. ``size`` is its true length, when less of it was kept."""

    at: datetime
    source: End
    destination: End
    transport: Literal["udp", "tcp"]
    data: bytes
    size: int = 0


def render(packets: Iterable[Packet]) -> bytes:
    """A whole capture file, in the order of the packets.

    An address that is no number (a host name that was never looked up) is written as 0.0.0.0.
    """
    out = [struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAP_BYTES, _LINKTYPE_RAW)]
    sequences: dict[tuple[End, End], int] = {}
    for packet in packets:
        micros = (packet.at - _EPOCH) // _MICROSECOND
        for frame, size in _frames(packet, sequences):
            out.append(struct.pack("<IIII", micros // 1_000_000, micros % 1_000_000, len(frame), size))
            out.append(frame)
    return b"".join(out)


def _frames(packet: Packet, sequences: dict[tuple[End, End], int]) -> Iterator[tuple[bytes, int]]:
    """The frames of one message, each with its length on the wire."""
    missing = max(0, packet.size - len(packet.data))
    if packet.transport == "udp":
        data = packet.data[:_MAX_DATAGRAM_BYTES]
        missing = min(missing, _MAX_DATAGRAM_BYTES - len(data))
        yield _ip(packet, _UDP, _udp(packet, data, missing), missing)
        return
    there, back = (packet.source, packet.destination), (packet.destination, packet.source)
    for start in range(0, max(len(packet.data), 1), _TCP_SEGMENT_BYTES):
        part = packet.data[start : start + _TCP_SEGMENT_BYTES]
        segment = _tcp(packet, sequences.get(there, 1), sequences.get(back, 1), part)
        sequences[there] = sequences.get(there, 1) + len(part)
        yield _ip(packet, _TCP, segment, 0)
    # What was not kept leaves a gap in the sequence numbers: Wireshark says "previous segment not captured".
    sequences[there] = sequences.get(there, 1) + missing


def _udp(packet: Packet, data: bytes, missing: int) -> bytes:
    length = 8 + len(data) + missing
    head = struct.pack("!HHH", packet.source.port, packet.destination.port, length)
    # The checksum covers bytes that were not kept: 0 says that there is none.
    total = 0 if missing else _checksum(_pseudo(packet, _UDP, length) + head + b"\0\0" + data) or 0xFFFF
    return head + struct.pack("!H", total) + data


def _tcp(packet: Packet, sequence: int, acknowledged: int, data: bytes) -> bytes:
    def head(checksum: int) -> bytes:
        return struct.pack(
            "!HHIIBBHHH",
            packet.source.port,
            packet.destination.port,
            sequence & 0xFFFFFFFF,
            acknowledged & 0xFFFFFFFF,
            5 << 4,
            _PUSH_ACK,
            0xFFFF,
            checksum,
            0,
        )

    return head(_checksum(_pseudo(packet, _TCP, 20 + len(data)) + head(0) + data)) + data


def _ip(packet: Packet, protocol: int, payload: bytes, missing: int) -> tuple[bytes, int]:
    source, destination = _addresses(packet)
    length = len(payload) + missing
    if len(source) == 16:
        head = struct.pack("!IHBB", 6 << 28, length, protocol, 64) + source + destination
        return head + payload, len(head) + length

    def v4(checksum: int) -> bytes:
        return (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, protocol, checksum)
            + source
            + destination
        )

    return v4(_checksum(v4(0))) + payload, 20 + length


def _pseudo(packet: Packet, protocol: int, length: int) -> bytes:
    source, destination = _addresses(packet)
    if len(source) == 16:
        return source + destination + struct.pack("!II", length, protocol)
    return source + destination + struct.pack("!BBH", 0, protocol, length)


def _addresses(packet: Packet) -> tuple[bytes, bytes]:
    """Both addresses in the form of one family; an IPv4 end that talks to an IPv6 one is mapped."""
    ends = [_number(packet.source.host), _number(packet.destination.host)]
    if len({len(end) for end in ends}) == 2:
        ends = [end if len(end) == 16 else bytes(10) + b"\xff\xff" + end for end in ends]
    return ends[0], ends[1]


def _number(host: str) -> bytes:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).packed
    except ValueError:
        return bytes(4)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
