"""A small S3 object store on a real socket: checks signatures and digests, keeps objects in memory."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime

from tongshi.protocols.s3_signature import Credentials, signed

_UNSIGNED = {"authorization", "host", "x-amz-date", "x-amz-content-sha256"}


class ObjectStore:
    """One store with one pair of credentials. ``is_down`` answers 503 to everything."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.objects: dict[str, bytes] = {}
        self.is_down = False
        self.refused = 0
        self.largest_piece = 0
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        assert self._server is not None  # started
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def start(self) -> None:
        """Listen on a port that the system chooses."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            body = await self._body(reader, int(headers.get("content-length", "0")))
            status, answer = self._answer(method, path, headers, body)
            writer.write(
                f"HTTP/1.1 {status} -\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # whoever asked is gone, or did not speak HTTP
        finally:
            writer.close()

    async def _body(self, reader: asyncio.StreamReader, size: int) -> bytes:
        body = b""
        while len(body) < size:
            piece = await reader.read(min(size - len(body), 1 << 20))
            if not piece:
                break
            self.largest_piece = max(self.largest_piece, len(piece))
            body += piece
        return body

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self.is_down:
            return 503, b"down"
        if not self._is_signed(method, path, headers, body):
            self.refused += 1
            return 403, b"SignatureDoesNotMatch"
        if method == "PUT":
            self.objects[path] = body
            return 200, b""
        if method == "DELETE":
            self.objects.pop(path, None)
            return 204, b""
        held = self.objects.get(path)
        if held is None:
            return 404, b"NoSuchKey"
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        return (206, held[int(first) : int(last) + 1]) if int(first) < len(held) else (416, b"")

    def _is_signed(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bool:
        digest = hashlib.sha256(body).hexdigest()
        names = headers.get("authorization", "").partition("SignedHeaders=")[2].partition(",")[0].split(";")
        at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        expected = signed(
            self._credentials,
            method,
            headers["host"],
            path,
            at,
            body_sha256=digest,
            headers={name: headers[name] for name in names if name not in _UNSIGNED},
        )
        is_whole = headers["x-amz-content-sha256"] == digest
        return is_whole and headers.get("authorization") == expected["Authorization"]
