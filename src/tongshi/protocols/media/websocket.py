"""The server's half of WebSocket (RFC 6455): the handshake, and as much as a microphone needs; no I/O.

A browser sends small binary messages of sound, pings and a close. Text, fragments and messages past the bound
end the connection with the number that the RFC has for it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_MESSAGE_BYTES: Final = 8_192  # a second of G.711; browsers send a twentieth of it
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==\Z")


class Opcode(IntEnum):
    """What a frame is."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """Why a connection ends."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    UNSUPPORTED = 1003
    POLICY = 1008
    TOO_BIG = 1009


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message, unmasked."""

    opcode: Opcode
    payload: bytes


class Violation(Exception):
    """The browser's half broke the protocol or a bound; ``code`` goes into the close frame."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.name)
        self.code = code


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode()


def upgrade_head(key: str) -> bytes:
    """The answer that makes a request's connection a WebSocket.

    Raises:
        Violation: this is no Sec-WebSocket-Key; no connection was made yet.
    """
    if not _KEY.match(key):
        raise Violation(CloseCode.PROTOCOL)
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    )
    return head.encode("ascii")


class FrameReader:
    """Bytes to frames; holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises Violation; the connection must end then."""
        self._buffer += data
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode = _opcode(buffer[0])
        if not buffer[1] & 0x80:
            raise Violation(CloseCode.PROTOCOL)  # a browser masks
        size, begin = buffer[1] & 0x7F, 2
        if opcode >= Opcode.CLOSE and size > 125:
            raise Violation(CloseCode.PROTOCOL)
        if size == 127:
            raise Violation(CloseCode.TOO_BIG)
        if size == 126:
            if len(buffer) < 4:
                return None
            size, begin = int.from_bytes(buffer[2:4], "big"), 4
        if size > MAX_MESSAGE_BYTES:
            raise Violation(CloseCode.TOO_BIG)
        end = begin + 4 + size
        if len(buffer) < end:
            return None
        mask, masked = bytes(buffer[begin : begin + 4]), bytes(buffer[begin + 4 : end])
        del buffer[:end]
        return Frame(opcode, _unmask(masked, mask))


def render_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    """A frame of ours; at most 125 bytes, which closes and pongs are."""
    return bytes((0x80 | opcode, len(payload))) + payload


def close_frame(code: CloseCode) -> bytes:
    """The frame that ends a connection."""
    return render_frame(Opcode.CLOSE, code.to_bytes(2, "big"))


def _opcode(first: int) -> Opcode:
    if first & 0x70 or not first & 0x80:
        raise Violation(CloseCode.UNSUPPORTED if not first & 0x70 else CloseCode.PROTOCOL)
    try:
        opcode = Opcode(first & 0x0F)
    except ValueError:
        raise Violation(CloseCode.PROTOCOL) from None
    if opcode is Opcode.TEXT:
        raise Violation(CloseCode.UNSUPPORTED)
    return opcode


def _unmask(masked: bytes, mask: bytes) -> bytes:
    size = len(masked)
    pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(masked, "big") ^ pattern).to_bytes(size, "big")
