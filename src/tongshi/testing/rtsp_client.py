"""An RTSP client that says what a test has it say."""

from __future__ import annotations

import asyncio


class RtspClient:
    """One RTSP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.sequence = reader, writer, 0

    async def ask(self, method: str, url: str, fields: str = "") -> tuple[int, str]:
        """Status and head of the answer; packets before it are passed over."""
        self.sequence += 1
        self.writer.write(f"{method} {url} RTSP/1.0\r\nCSeq: {self.sequence}\r\n{fields}\r\n".encode())
        while (first := await self.reader.readexactly(1)) == b"$":
            _, high, low = await self.reader.readexactly(3)
            await self.reader.readexactly(high << 8 | low)
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode()
        if "Content-Length: " in head:
            await self.reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0]))
        assert f"CSeq: {self.sequence}\r\n" in head
        return int(head.split(" ")[1]), head


async def connected(url: str, local_host: str = "") -> RtspClient:
    """A connection to the host of an address, from an address of ours when it is to be a certain one."""
    host, _, port = url.removeprefix("rtsp://").partition("/")[0].partition(":")
    local = (local_host, 0) if local_host else None
    return RtspClient(*await asyncio.open_connection(host, int(port), local_addr=local))
