"""The network between platforms in processes of their own: HTTP that is lost, doubled, cut, spoiled, false.

A lie is told by altering a body and signing it again with the sender's key, as its own faulty software would.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
from typing import NamedTuple

import msgspec

from tongshi.exchange.signing import Signer
from tongshi.testing.chaos.journal import Journal
from tongshi.testing.chaos.lies import LIES, lie
from tongshi.testing.chaos.link import SHAPES
from tongshi.testing.chaos.process_node import ProcessNode

ON_THE_WAY = ("request lost", "answer lost", "answer cut", "doubled", "held back", "cut", "spoiled", "slow")
_LONGEST_DELAY_S = 0.5
_MAX_HEAD_BYTES = 64 * 1024


class _Message(NamedTuple):
    """One request or answer: its head, the start line first, and its body."""

    lines: list[bytes]
    body: bytes

    def render(self) -> bytes:
        return b"\r\n".join(self.lines) + b"\r\n\r\n" + self.body


class Proxy:
    """Stands before the receiver. ``odds`` is the chance that a request meets something; 0 heals the way."""

    def __init__(
        self, sender: ProcessNode, receiver: ProcessNode, signer: Signer, rng: random.Random, journal: Journal
    ) -> None:
        self.odds = 0.0
        self.url = ""
        self._sender, self._receiver, self._signer = sender, receiver, signer
        self._rng, self._journal = rng, journal
        self._server: asyncio.Server | None = None
        self._late: set[asyncio.Task[_Message | None]] = set()
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MAX_HEAD_BYTES)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def heal(self) -> None:
        """From here on everything arrives, once and as it is."""
        self.odds = 0.0

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._late, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        # One side goes away in the middle, as sides do here.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._serve_one(reader, writer):
                pass
        self._open.discard(task)
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Returns whether the connection is still good."""
        request = await _read(reader)
        event = self._event()
        if event == "request lost":
            return False
        if event == "held back":
            # The sender believes it lost; it arrives all the same, behind later ones.
            late = asyncio.create_task(self._forward(request, self._delay_s()))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            return False
        if event == "doubled":
            await self._forward(request)
        answer = await self._forward(self._spoilt(request, event), self._delay_s() if event == "slow" else 0)
        if answer is None or event == "answer lost":
            return False
        data = answer.render()
        if event == "answer cut":
            data = data[: self._rng.randrange(len(data))]
        writer.write(data)
        await writer.drain()
        return event != "answer cut"

    def _event(self) -> str:
        if self._rng.random() >= self.odds:
            return ""
        event = self._rng.choice(LIES if self._rng.random() < 0.25 else ON_THE_WAY)
        self._journal.note(event, self._sender.id)
        return event

    def _delay_s(self) -> float:
        return self._rng.uniform(0.01, _LONGEST_DELAY_S)

    def _spoilt(self, request: _Message, event: str) -> _Message:
        body = request.body
        if event in LIES:
            return self._false(request, event)
        if not body or event not in ("cut", "spoiled"):
            return request
        if event == "cut":
            # The head promises more than comes.
            return _Message(request.lines, body[: self._rng.randrange(len(body))])
        place = self._rng.randrange(len(body))
        other = bytes([body[place] ^ self._rng.randrange(1, 256)])
        return _Message(request.lines, body[:place] + other + body[place + 1 :])

    def _false(self, request: _Message, event: str) -> _Message:
        path = request.lines[0].split(b" ")[1].decode()
        if path not in SHAPES:
            return request
        is_packed = b"content-encoding: gzip" in (line.lower() for line in request.lines)
        plain = gzip.decompress(request.body) if is_packed else request.body
        told = lie(event, msgspec.json.decode(plain, type=SHAPES[path]), self._rng)
        body = msgspec.json.encode(told)
        if is_packed:
            body = gzip.compress(body, 1)
        new = {"content-length": str(len(body)), **self._signer.headers("POST", path, "", body)}
        names = {name.lower().encode() for name in new}
        kept = [line for line in request.lines if line.partition(b":")[0].lower() not in names]
        return _Message([*kept, *(f"{name}: {value}".encode() for name, value in new.items())], body)

    async def _forward(self, request: _Message, delay_s: float = 0) -> _Message | None:
        """The receiver's answer; None when it has none."""
        await asyncio.sleep(delay_s)
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._receiver.port, limit=_MAX_HEAD_BYTES
            )
        except OSError:
            return None
        try:
            writer.write(request.render())
            if len(request.body) < _length(request.lines):
                writer.write_eof()
            await writer.drain()
            return await _read(reader)
        except (OSError, asyncio.IncompleteReadError):
            return None
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    return _Message(lines, await reader.readexactly(_length(lines)))


def _length(lines: list[bytes]) -> int:
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
