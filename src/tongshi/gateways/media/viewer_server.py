"""The viewers' listener: reads one request head, takes its ticket, and hands the socket to the engine.

Python never sees the picture: once the ticket is good the connected socket goes to the engine together with
the response head. Everything before that is bounded: the head's size, the time to send it, and how many may
be sending one at once. Refusals use the JSON envelope of the REST face.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from typing import Generic
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import Forbidden, InvalidRequest, NotFound, PeerFailed, TongshiError
from tongshi.gateways.media.door import A, Door
from tongshi.gateways.media.hls import HLS_PATH, HlsDesk
from tongshi.gateways.media.listener import Listener, read_head
from tongshi.gateways.media.refusal import Refused
from tongshi.gateways.media.uplink import TALK_PATH, Uplinks
from tongshi.gateways.media.whep import WHEP_PATH, Post, WhepDesk
from tongshi.protocols.media.websocket import Violation, upgrade_head

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 8 * 1024
HEAD_TIMEOUT_S = 5.0
STALL_S = 30.0  # who takes nothing of a download for so long is gone
MAX_QUERY_FIELDS = 10

_PATH = re.compile(r"/(live|download)/([0-9A-Za-z]{1,64})\.(flv|mp4|ps)\Z", re.ASCII)
_TYPES = {"flv": "video/x-flv", "mp4": "video/mp4", "ps": "video/mp2p"}
_CONTAINERS = {"flv": "flv", "mp4": "fmp4", "ps": "ps"}
_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Head:
    """A request head as far as a viewer needs it; ``key`` is that of a WebSocket, ``length`` of a body."""

    method: str
    target: str
    origin: str
    key: str = ""
    media_type: str = ""
    length: int | None = None


def parse_head(data: bytes) -> Head:
    """Read a request line and the Origin.

    Raises:
        InvalidRequest: not HTTP/1.x.
    """
    lines = data.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
        raise InvalidRequest("不是 HTTP 请求")
    origins = [line.partition(":")[2].strip() for line in lines[1:] if line[:7].lower() == "origin:"]
    key = next((line[18:].strip() for line in lines[1:] if line[:18].lower() == "sec-websocket-key:"), "")
    kind = next(
        (line[13:].partition(";")[0] for line in lines[1:] if line[:13].lower() == "content-type:"), ""
    )
    length = next((line[15:].strip() for line in lines[1:] if line[:15].lower() == "content-length:"), "")
    return Head(
        parts[0],
        parts[1],
        origins[0] if len(origins) == 1 else "",
        key[:64],
        kind.strip().lower(),
        int(length) if length.isascii() and length.isdigit() and len(length) < 10 else None,
    )


def parse_target(target: str) -> tuple[str, str]:
    """Path and ticket of a request's target; no ticket is "".

    Raises:
        InvalidRequest: no URL, or too many fields.
    """
    try:
        url = urlsplit(target)
        fields = parse_qs(url.query, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise InvalidRequest("地址无法解析") from error
    return url.path, fields.get("ticket", [""])[0]


class ViewerServer(Generic[A]):
    """Listens for viewers of ``/live/{streamId}.flv``, ``.mp4`` and ``.ps``, by HTTP or by WebSocket, of
    ``/live/{streamId}/index.m3u8`` (``hls``), of ``/download/{streamId}.mp4`` and ``.ps``, for microphones
    (``uplink``), and answers browsers that watch by WebRTC (``whep``).

    Args:
        host, port: where to listen; port 0 lets the system choose, see ``port`` after ``start``.
        origins: origins a browser page may play from; ``*`` allows any, because the ticket is the credential
            and no cookie is read here.
    """

    def __init__(
        self,
        tickets: Door[A],
        host: str,
        port: int,
        clock: Clock,
        origins: tuple[str, ...] = ("*",),
        uplinks: Uplinks | None = None,
    ) -> None:
        self._uplinks = uplinks
        self._tickets = tickets
        self._hls = HlsDesk(tickets)
        self._whep = WhepDesk(tickets)
        self._listener = Listener(host, port, self._serve)
        self._clock = clock
        self._origins = origins

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._listener.start()

    async def stop(self) -> None:
        """Stop listening and end what is not the engine's."""
        await self._listener.stop()
        await self._hls.stop()

    async def _serve(self, connection: socket.socket, client_host: str) -> None:
        """One connection; the engine may take it."""
        origin = ""
        try:
            raw, body = await self._read_head(connection)
            head = parse_head(raw)
            origin = head.origin
            if head.target.startswith(WHEP_PATH):
                await self._answer_whep(connection, head, body, client_host)
            else:
                await self._answer(connection, head, client_host)
        except TongshiError as error:
            await self._refuse(connection, error.http_status, error.code, error.message, origin)
        except Refused as refusal:
            await self._refuse(connection, refusal.status, 40001, str(refusal), origin, refusal.fields)
        except (OSError, TimeoutError):
            pass
        except Exception:
            log.exception("viewer_request_failed")
            await self._refuse(connection, 500, 50000, "平台内部错误", origin)

    async def _read_head(self, connection: socket.socket) -> tuple[bytes, bytes]:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            read = await read_head(connection, b"", MAX_HEAD_BYTES)
        if read is None:
            raise Refused(431, "请求头过大")
        return read

    async def _answer_whep(
        self, connection: socket.socket, head: Head, body: bytes, client_host: str
    ) -> None:
        path, ticket = parse_target(head.target)
        post = Post(head.method, path, ticket, client_host, head.media_type, head.length, body)
        answer = await self._whep.answer(connection, post)
        await self._send(connection, self._head(answer.status, head.origin, answer.fields) + answer.body)

    async def _answer(self, connection: socket.socket, head: Head, client_host: str) -> None:
        if head.method == "OPTIONS":
            await self._send(connection, self._head(204, head.origin, _PREFLIGHT))
            return
        if head.method != "GET":
            raise Refused(405, "只支持 GET")
        path, ticket = parse_target(head.target)
        if self._uplinks is not None and path.startswith(TALK_PATH):
            await self._uplinks.serve(connection, path[len(TALK_PATH) :], ticket, head.key, client_host)
            return
        if match := HLS_PATH.match(path):
            kind, body = await self._hls.answer(match[1], match[2], head.target, ticket, client_host)
            fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
            await self._send(connection, self._head(200, head.origin, fields) + body)
            return
        match = _PATH.match(path)
        if match is None:
            raise NotFound("没有这个地址", code=40404)
        kind, stream_id, suffix = match.groups()
        if kind == "download":
            admission = await self._tickets.enter(stream_id, ticket, client_host)
            await self._deliver(connection, admission, head.origin)
            return
        response, dialogue = self._opening(head, suffix)
        container = _CONTAINERS[suffix]
        admission = await self._tickets.enter(stream_id, ticket, client_host, container=container)
        await self._tickets.serve(admission, container, connection.detach(), response, dialogue)

    def _opening(self, head: Head, suffix: str) -> tuple[bytes, str]:
        """What is answered before the first tag, and how tags are framed."""
        if not head.key:
            fields = {"Content-Type": _TYPES[suffix], "Connection": "close"}
            return self._head(200, head.origin, fields), ""
        # A browser asks nobody before it opens a WebSocket of another origin: the question is ours.
        if head.origin and not self._allowed(head.origin):
            raise Forbidden("不允许从此网页播放", code=40302)
        try:
            return upgrade_head(head.key), "websocket"
        except Violation as violation:
            raise InvalidRequest("WebSocket 握手无效") from violation

    async def _deliver(self, connection: socket.socket, admission: A, origin: str) -> None:
        """Send a download while it grows; only a whole one gets its last chunk."""
        fields = {
            "Content-Type": _TYPES[admission.file_name.rpartition(".")[2]],
            "Content-Disposition": f'attachment; filename="{admission.file_name}"',
            "Transfer-Encoding": "chunked",
            "Connection": "close",
        }
        loop, sent = asyncio.get_running_loop(), 0
        spool = self._tickets.download(admission)
        try:
            await self._send(connection, self._head(200, origin, fields))
            async for part in spool.read():
                async with asyncio.timeout(STALL_S):
                    await loop.sock_sendall(connection, b"%x\r\n%b\r\n" % (len(part), part))
                sent += len(part)
            await self._send(connection, b"0\r\n\r\n")
        except (OSError, TimeoutError, PeerFailed) as error:
            log.info("download_broken_off", sent=sent, error=str(error))
            self._tickets.delivered(admission, sent, is_whole=False)
        except BaseException:
            self._tickets.delivered(admission, sent, is_whole=False)
            raise
        else:
            self._tickets.delivered(admission, sent, is_whole=True)

    async def _refuse(
        self,
        connection: socket.socket,
        status: int,
        code: int,
        message: str,
        origin: str,
        more: dict[str, str] | None = None,
    ) -> None:
        if connection.fileno() < 0:
            return  # already the engine's
        time = self._clock.at().isoformat(timespec="milliseconds")
        envelope = {"code": code, "msg": message, "data": None, "requestId": "", "serverTime": time}
        body = msgspec.json.encode(envelope)
        fields = {
            "Content-Type": "application/json; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(more or {}),
        }
        try:
            await self._send(connection, self._head(status, origin, fields) + body)
        except (OSError, TimeoutError):
            pass

    async def _send(self, connection: socket.socket, data: bytes) -> None:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            await asyncio.get_running_loop().sock_sendall(connection, data)

    def _allowed(self, origin: str) -> str:
        """What is told of an origin that may play, "" of another."""
        return "*" if "*" in self._origins else origin if origin in self._origins else ""

    def _head(self, status: int, origin: str, fields: dict[str, str]) -> bytes:
        allowed = self._allowed(origin)
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", "Cache-Control: no-store"]
        if allowed:
            lines += [f"Access-Control-Allow-Origin: {allowed}", "Vary: Origin"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Max-Age": "600",
    "Content-Length": "0",
    "Connection": "close",
}
