"""The microphone's WebSocket: sound of a browser, taken with one ticket and given to its session.

Each binary message is G.711 as the session was opened for, 8 kHz, at most ``MAX_MESSAGE_BYTES``. A microphone
that says nothing for ``QUIET_S`` is gone, and so is one that sends much more than it can have heard.
"""

from __future__ import annotations

import asyncio
import socket

import structlog

from tongshi.errors import InvalidRequest
from tongshi.protocols.media.g711 import RATE_HZ
from tongshi.protocols.media.websocket import (
    CloseCode,
    FrameReader,
    Opcode,
    Violation,
    close_frame,
    render_frame,
    upgrade_head,
)
from tongshi.resources.viewing.voice import Talk, Voice

log = structlog.get_logger(__name__)

TALK_PATH = "/talk/"
QUIET_S = 30.0
READ_BYTES = 16 * 1024
SEND_TIMEOUT_S = 2.0
MAX_AHEAD_BYTES = 10 * RATE_HZ  # beyond real time: a burst after a stall is no attack


class Uplinks:
    """Serves microphones."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    async def serve(
        self, connection: socket.socket, session_id: str, ticket: str, key: str, client_host: str
    ) -> None:
        """One connection whose head was read; it is the caller's to close.

        Raises:
            InvalidRequest: no WebSocket. Unauthenticated, Forbidden, Gone: the ticket.
        """
        try:
            head = upgrade_head(key)
        except Violation as violation:
            raise InvalidRequest("该地址只接受 WebSocket 连接") from violation
        talk = self._voice.admit(session_id, ticket, client_host)
        try:
            await _send(connection, head)
            code = await self._listen(connection, talk)
            await _send(connection, close_frame(code))
        except (OSError, TimeoutError):
            pass
        finally:
            self._voice.left(talk)

    async def _listen(self, connection: socket.socket, talk: Talk) -> CloseCode:
        """Take sound until one side ends it; why."""
        loop, reader = asyncio.get_running_loop(), FrameReader()
        began = loop.time()
        ending = asyncio.ensure_future(talk.ended.wait())
        try:
            while True:
                reading = asyncio.ensure_future(loop.sock_recv(connection, READ_BYTES))
                await asyncio.wait((reading, ending), timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                    return CloseCode.GOING_AWAY if ending.done() else CloseCode.POLICY
                data = reading.result()
                if not data or await self._take(connection, talk, reader, data):
                    return CloseCode.NORMAL
                if talk.spoken_bytes > (loop.time() - began) * RATE_HZ + MAX_AHEAD_BYTES:
                    return CloseCode.POLICY
        except Violation as violation:
            log.info("uplink_broken", session_id=talk.session_id, reason=violation.code.name)
            return violation.code
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    @staticmethod
    async def _take(connection: socket.socket, talk: Talk, reader: FrameReader, data: bytes) -> bool:
        """Whether the browser closed."""
        for frame in reader.feed(data):
            if frame.opcode is Opcode.CLOSE:
                return True
            if frame.opcode is Opcode.PING:
                await _send(connection, render_frame(Opcode.PONG, frame.payload))
            elif frame.opcode is Opcode.BINARY:
                talk.feed(frame.payload)
        return False


async def _send(connection: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await asyncio.get_running_loop().sock_sendall(connection, data)
