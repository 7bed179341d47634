"""Capture files: read back by a reader that trusts nothing, and by tshark where it is installed."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tongshi.protocols.pcap import End, Packet, render

AT = datetime(2026, 1, 1, 8, 0, 0, 123_456, tzinfo=UTC)
US, PEER = End("10.0.0.1", 5060), End("10.0.0.2", 5062)
OPTIONS = (
    b"OPTIONS sip:31010100002000000001@3101010000 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.2:5062;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
    b"Call-ID: one\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class Frame:
    """One packet as it stands in the file."""

    at: datetime
    source: End
    destination: End
    protocol: int
    payload: bytes
    sequence: int
    size: int


def read(file: bytes) -> list[Frame]:
    """Read a capture strictly: every length, version and checksum must be right."""
    magic, major, minor, zone, digits, _, link = struct.unpack("<IHHiIII", file[:24])
    assert (magic, major, minor, zone, digits, link) == (0xA1B2C3D4, 2, 4, 0, 0, 101)
    frames, at = [], 24
    while at < len(file):
        seconds, micros, kept, size = struct.unpack("<IIII", file[at : at + 16])
        frame = file[at + 16 : at + 16 + kept]
        assert (len(frame), micros < 1_000_000, size >= kept) == (kept, True, True)
        frames.append(
            _frame(frame, datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros), size)
        )
        at += 16 + kept
    return frames


def _frame(frame: bytes, at: datetime, size: int) -> Frame:
    version = frame[0] >> 4
    if version == 4:
        assert frame[0] & 15 == 5
        assert _sum(frame[:20]) == 0
        length, protocol, source, destination = (
            int.from_bytes(frame[2:4]), frame[9], frame[12:16], frame[16:20],
        )  # fmt: skip
        assert length == size
        body, pseudo = frame[20:], source + destination + bytes([0, protocol])
    else:
        length, protocol, source, destination = (
            int.from_bytes(frame[4:6]), frame[6], frame[8:24], frame[24:40],
        )  # fmt: skip
        assert length == size - 40
        body, pseudo = frame[40:], source + destination + bytes([0, protocol])
    ports = struct.unpack("!HH", body[:4])
    here, there = (
        End(str(ipaddress.ip_address(host)), port)
        for host, port in zip((source, destination), ports, strict=True)
    )
    whole = len(frame) == size
    if protocol == 17:
        assert int.from_bytes(body[4:6]) == len(body) + size - len(frame)
        if whole:
            assert _sum(pseudo + body[4:6] + body) == 0
        return Frame(at, here, there, protocol, body[8:], 0, size)
    assert (protocol, body[12] >> 4) == (6, 5)
    assert _sum(pseudo + struct.pack("!H", len(body)) + body) == 0
    return Frame(at, here, there, protocol, body[20:], int.from_bytes(body[4:8]), size)


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_a_datagram_keeps_time_ends_and_bytes() -> None:
    (frame,) = read(render([Packet(AT, PEER, US, "udp", OPTIONS, len(OPTIONS))]))
    assert (frame.at, frame.source, frame.destination, frame.payload) == (AT, PEER, US, OPTIONS)


def test_an_odd_length_has_a_right_checksum_too() -> None:
    (frame,) = read(render([Packet(AT, PEER, US, "udp", b"abc", 3)]))
    assert frame.payload == b"abc"


def test_addresses_of_the_sixth_version_and_of_both_together() -> None:
    there = End("2001:db8::2", 5060)
    first, second = read(
        render([Packet(AT, there, End("::1", 5060), "udp", b"x", 1), Packet(AT, there, US, "tcp", b"y", 1)])
    )
    assert (first.source.host, second.destination.host) == ("2001:db8::2", "::ffff:a00:1")


def test_a_stream_is_numbered_in_each_direction_and_cut_into_segments() -> None:
    long = bytes(70_000)
    frames = read(
        render(
            [
                Packet(AT, PEER, US, "tcp", long, len(long)),
                Packet(AT, US, PEER, "tcp", b"answer", 6),
                Packet(AT, PEER, US, "tcp", b"next", 4),
            ]
        )
    )
    assert [frame.sequence for frame in frames] == [1, 32_001, 64_001, 1, 70_001]
    assert b"".join(frame.payload for frame in frames[:3]) == long


def test_what_was_not_kept_is_told_by_the_length_and_not_invented() -> None:
    udp, tcp, after = read(
        render(
            [
                Packet(AT, PEER, US, "udp", b"head", 1000),
                Packet(AT, PEER, US, "tcp", b"head", 1000),
                Packet(AT, PEER, US, "tcp", b"on", 2),
            ]
        )
    )
    assert (udp.payload, udp.size) == (b"head", 20 + 8 + 1000)
    assert (tcp.payload, after.sequence) == (b"head", 1001)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="SKIPPED ALOUD: tshark is not installed")
def test_tshark_reads_it_and_finds_nothing_wrong(tmp_path: Path) -> None:
    file = tmp_path / "one.pcap"
    ok = OPTIONS.replace(b"OPTIONS sip:31010100002000000001@3101010000 SIP/2.0", b"SIP/2.0 200 OK")
    packets = [
        Packet(AT, PEER, US, "udp", OPTIONS, len(OPTIONS)),
        Packet(AT, US, PEER, "udp", ok, len(ok)),
        Packet(AT, PEER, US, "tcp", OPTIONS, len(OPTIONS)),
    ]
    file.write_bytes(render(packets))
    fields = [
        "ip.src",
        "ip.checksum.status",
        "udp.checksum.status",
        "tcp.checksum.status",
        "sip.Method",
        "sip.Status-Code",
    ]
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=;"]
    for prefix in ("ip", "udp", "tcp"):
        command += ["-o", f"{prefix}.check_checksum:TRUE"]
    command += [part for field in fields for part in ("-e", field)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "10.0.0.2;1;1;;OPTIONS;",
        "10.0.0.1;1;1;;;200",
        "10.0.0.2;1;;1;OPTIONS;",
    ]
