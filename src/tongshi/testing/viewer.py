"""An independent viewer: fetches FLV, MP4 or PS by HTTP or WebSocket on a plain socket; FFmpeg decodes it."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import av
import numpy as np

from tongshi.errors import InvalidRequest, PeerFailed, PeerTimeout
from tongshi.testing.frame_code import Code, read_code

_LARGEST_HEAD_BYTES = 16_384
_NO_MEDIA, _UNDECODABLE = 50402, 50403
_PROMPT = {"probesize": "65536", "fpsprobesize": "0"}  # else FFmpeg looks on for seconds first


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen.

    ``codec`` is FFmpeg's name (h264, hevc); ``codes`` are the readable block codes in order; the times run
    from the request to the answer's head and to the first decoded frame.
    """

    frames: int
    codec: str
    width: int
    height: int
    codes: list[Code] = field(default_factory=list)
    answered_ms: float = 0.0
    first_frame_ms: float = 0.0


async def watch_http(url: str, frames: int = 50, timeout_s: float = 20.0) -> Watched:
    """Watch until so many frames are decoded.

    Raises:
        InvalidRequest: not a plain http or ws URL.
        PeerFailed: refused (details ``httpStatus`` and ``body``), or the stream ended early.
        PeerTimeout: 50402 nothing came, 50403 bytes came but not enough frames.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "ws") or not parts.hostname:
        raise InvalidRequest("仅支持 http 与 ws 地址", field="url")
    deadline = time.monotonic() + timeout_s
    try:
        connection = await asyncio.to_thread(
            socket.create_connection, (parts.hostname, parts.port or 80), timeout_s
        )
    except OSError as error:
        raise PeerFailed(f"无法连接媒体地址：{error}") from error
    try:
        return await asyncio.to_thread(_watch, connection, url, frames, deadline)
    finally:
        # Also wakes the thread when this task was cancelled.
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Body:
    """The answer's body as a file, bounded by a deadline; counts what it gave."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._rest = b""
        self.received = 0
        self.is_late = False

    def head(self) -> str:
        """Read up to the blank line."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self._receive(4096)
            data += part
            if not part or len(data) > _LARGEST_HEAD_BYTES:
                break
        head, _, self._rest = data.partition(b"\r\n\r\n")
        self.received = len(self._rest)
        return head.decode("latin-1")

    def read(self, size: int, /) -> bytes:
        if self._rest:
            part, self._rest = self._rest[:size], self._rest[size:]
            return part
        part = self._receive(min(size, 65_536))
        self.received += len(part)
        return part

    def _receive(self, size: int) -> bytes:
        left_s = self._deadline - time.monotonic()
        if left_s > 0:
            self._connection.settimeout(left_s)
            try:
                return self._connection.recv(size)
            except TimeoutError:
                pass
            except OSError:
                return b""
        self.is_late = True
        return b""


class _Messages:
    """The binary messages of a WebSocket behind each other, as a file."""

    def __init__(self, body: _Body) -> None:
        self._body = body
        self._left = 0

    def read(self, size: int, /) -> bytes:
        if not self._left and not self._next():
            return b""
        part = self._body.read(min(size, self._left))
        self._left -= len(part)
        return part

    def _next(self) -> bool:
        head = self._exactly(2)
        if len(head) < 2 or head[0] != 0x82:
            return False  # closed, or nothing that we know
        self._left = head[1]
        if self._left >= 126:
            self._left = int.from_bytes(self._exactly(2 if self._left == 126 else 8), "big")
        return self._left > 0

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (part := self._body.read(size - len(data))):
            data += part
        return data


_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def _watch(connection: socket.socket, url: str, frames: int, deadline: float) -> Watched:
    began = time.monotonic()
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_message = parts.scheme == "ws"
    fields = _UPGRADE if is_message else "Accept: */*\r\n"
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{fields}\r\n".encode())
    body = _Body(connection, deadline)
    status = _status(body.head())
    if status != (101 if is_message else 200):
        if body.is_late:
            raise PeerTimeout("媒体服务没有应答", code=_NO_MEDIA)
        text = body.read(4096).decode("utf-8", "replace")
        raise PeerFailed(f"媒体服务拒绝：{status}", details={"httpStatus": status, "body": text})
    answered = time.monotonic()
    seen = _decode(_Messages(body) if is_message else body, frames, parts.path, began, answered)
    if seen is not None and seen.frames >= frames:
        return seen
    count = seen.frames if seen else 0
    if body.is_late:
        code = _UNDECODABLE if body.received else _NO_MEDIA
        raise PeerTimeout(f"限时内只解码出 {count} 帧", code=code, details={"frames": count})
    raise PeerFailed(f"码流提前结束，只解码出 {count} 帧", details={"frames": count, "bytes": body.received})


def _decode(body: _Readable, frames: int, path: str, began: float, answered: float) -> Watched | None:
    """Decode up to ``frames``; None when FFmpeg cannot even name the streams."""
    codes: list[Code] = []
    count, first_ms, name, size = 0, 0.0, "", (0, 0)
    kind = {"mp4": "mp4", "ps": "mpeg"}.get(path.rpartition(".")[2], "flv")
    try:
        with av.open(body, "r", format=kind, options=_PROMPT) as container:
            stream = container.streams.video[0]
            name = stream.codec_context.name
            for frame in container.decode(stream):
                if count == 0:
                    first_ms = (time.monotonic() - began) * 1000
                count, size = count + 1, (frame.width, frame.height)
                code = read_code(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                if code is not None:
                    codes.append(code)
                if count >= frames:
                    break
    except (av.FFmpegError, IndexError):
        if count == 0:
            return None
    return Watched(count, name, size[0], size[1], codes, (answered - began) * 1000, first_ms)


def _status(head: str) -> int:
    words = head.split(" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
