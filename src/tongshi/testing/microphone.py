"""A browser's microphone as a WebSocket client: speaks a tone in G.711, as the console does."""

from __future__ import annotations

import asyncio
import base64
import os
from urllib.parse import urlsplit

import numpy as np

from tongshi.protocols.media.g711 import FRAME_BYTES, FRAME_S, RATE_HZ
from tongshi.testing.audio import encode_alaw


def tone(hz: float, seconds: float) -> bytes:
    """A sine in A-law, 8 kHz."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return encode_alaw((np.sin(2 * np.pi * hz * t) * 9_000).astype(np.int16))


class Microphone:
    """One connection to an uplink. ``status`` is the HTTP status of the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
        self._reader, self._writer, self.status = reader, writer, status

    @classmethod
    async def open(cls, url: str) -> Microphone:
        """Connect and shake hands; a refusal shows in ``status``."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer, int(head.split(b" ", 2)[1]))

    async def speak(self, samples: bytes) -> None:
        """Send sound as fast as it is spoken."""
        for begin in range(0, len(samples), FRAME_BYTES):
            self.send(2, samples[begin : begin + FRAME_BYTES])
            await asyncio.sleep(FRAME_S)

    def send(self, opcode: int, payload: bytes) -> None:
        """One masked frame."""
        mask = os.urandom(4)
        size = (
            bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        )
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._writer.write(bytes((0x80 | opcode,)) + size + mask + masked)

    async def received(self) -> bytes:
        """What the platform sent until it closed."""
        return await asyncio.wait_for(self._reader.read(), 5.0)

    async def close(self) -> None:
        """Say so and leave."""
        if not self._writer.is_closing():
            self.send(8, b"")
        self._writer.close()
