"""The listener to which devices bring their snapshots, over HTTP or HTTPS, by the path they were told.

Implements: GB/T 28181-2022 9.14
The standard leaves the upload open. POST and PUT are taken, with a form or the bare picture, whole or in
chunks; the SessionID is looked for in the form, the query and a header, the file's name in the form, at the
end of the path, in the query and a header. A path that nobody was told costs one look into the record and
no body is read for it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec
import structlog
import uvicorn

from tongshi.clock import SystemClock
from tongshi.errors import InvalidRequest, LimitExceeded, NotFound, PayloadTooLarge, TongshiError
from tongshi.gateways.certificates import OwnCertificate
from tongshi.protocols.multipart import FormPart, boundary_of, parse_form
from tongshi.resources.snapshots.model import Upload
from tongshi.resources.snapshots.service import Snapshots

log = structlog.get_logger(__name__)

MAX_AT_ONCE: Final = 32
MAX_CONNECTIONS: Final = 256
FORM_BYTES: Final = 64 * 1024  # what a form adds to its picture
BODY_TIMEOUT_S: Final = 30.0
START_TIMEOUT_S: Final = 10.0
MAX_QUERY_FIELDS: Final = 10

_PATH = re.compile(r"/snapshots/([A-Za-z0-9_-]{32})(?:/([^/]{1,128}))?/?\Z", re.ASCII)
_SESSION: Final = ("sessionid", "session_id", "session-id", "x-session-id")
_NAME: Final = ("filename", "file_name", "x-file-name")


class SnapshotReceiver:
    """Listens between ``start`` and ``stop``.

    Args:
        host, port: where to listen; port 0 lets the system choose, see ``port`` after ``start``.
        max_bytes: of one picture.
        shown_url: what devices are told when a proxy stands before us; "" tells host and port.
        certificate, key: files in PEM; with them only HTTPS is spoken.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        host: str,
        port: int,
        max_bytes: int,
        shown_url: str = "",
        certificate: str = "",
        key: str = "",
    ) -> None:
        self._snapshots = snapshots
        self._host = host
        self.port = port
        self._max_bytes = max_bytes
        self._shown_url = shown_url.rstrip("/")
        self._certificate, self._key = certificate, key
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._taking = 0

    @property
    def url(self) -> str:
        """Where devices reach us, without a final slash; "" before ``start``."""
        if self._serving is None:
            return ""
        scheme = "https" if self._certificate else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return self._shown_url or f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises OSError: the port is taken, or the certificate cannot be read."""
        tls = self._tls() if self._certificate else None
        config = uvicorn.Config(
            self._app,
            host=self._host,
            port=self.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=10,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=16 * 1024,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = server = _Server(config)
        serving = asyncio.get_running_loop().create_task(self._serve(server))
        async with asyncio.timeout(START_TIMEOUT_S):
            while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn has only this flag
                await asyncio.sleep(0.005)
        if serving.done():
            raise OSError(f"snapshots: {self._host}:{self.port} is taken")
        self._serving = serving
        self.port = server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End what is being brought and stop listening."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None

    def _tls(self) -> ssl.SSLContext:
        clock, field = SystemClock(), "snapshots.certificate"
        try:
            return OwnCertificate(self._certificate, self._key, clock, field).serving()
        except InvalidRequest as error:
            raise OSError(f"TLS certificate of snapshots: {error.message}") from error

    async def _serve(self, server: _Server) -> None:
        try:
            await server.serve()
        except SystemExit:  # uvicorn's word for a port that is taken
            log.error("snapshot_receiver_not_started", host=self._host, port=self.port)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._take(scope, receive)
            status, code, message = 200, 0, ""
        except TongshiError as error:
            status, code, message = error.http_status, error.code, error.message
            log.info("snapshot_refused", client=_client(scope), code=code, reason=message)
        except Exception:
            log.exception("snapshot_upload_failed")
            status, code, message = 500, 50000, "平台内部错误"
        headers = [(b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"no-store")]
        if status != 200:
            headers.append((b"connection", b"close"))
        body = msgspec.json.encode({"code": code, "msg": message})
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Any, receive: Any) -> None:
        found = _PATH.match(scope["path"])
        if found is None or scope["method"] not in ("POST", "PUT"):
            raise NotFound("没有这个上传地址", code=40400)
        order = await self._snapshots.open_path(found[1])
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        limit = self._max_bytes + FORM_BYTES
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > limit:
            raise PayloadTooLarge(f"图像超过 {self._max_bytes} 字节")
        if self._taking >= MAX_AT_ONCE:
            raise LimitExceeded("同时上传的图像过多", retry_after_s=2)
        self._taking += 1
        try:
            body = await _body(receive, limit)
            query = scope["query_string"].decode("latin-1")
            upload = read_upload(body, headers, query, unquote(found[2] or ""), _client(scope))
            if len(upload.data) > self._max_bytes:
                raise PayloadTooLarge(f"图像超过 {self._max_bytes} 字节")
            await self._snapshots.take(order, upload)
        finally:
            self._taking -= 1


class _Server(uvicorn.Server):
    """Signals are the platform's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_upload(body: bytes, headers: Mapping[str, str], query: str, end_of_path: str, sender: str) -> Upload:
    """Find picture, name and SessionID, wherever the device put them.

    Raises:
        InvalidRequest: no picture in it. RemoteViolation: a form that cannot be read.
    """
    fields = {name.lower(): value for name, value in headers.items() if name in (*_SESSION, *_NAME)}
    try:
        asked = parse_qs(query, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise InvalidRequest("查询参数过多") from error
    fields |= {name.lower(): values[0] for name, values in asked.items()}
    boundary = boundary_of(headers.get("content-type", ""))
    name, data = end_of_path, body
    if boundary is not None:
        parts = parse_form(body, boundary)
        picture = _picture_of(parts)
        name, data = picture.file_name or end_of_path, picture.content
        fields |= {
            part.name.lower(): part.content.decode("utf-8", "replace")[:256].strip()
            for part in parts
            if part is not picture
        }
    name = name or next((fields[one] for one in _NAME if fields.get(one)), "")
    session = next((fields[one] for one in _SESSION if fields.get(one)), "")
    if not data:
        raise InvalidRequest("没有图像内容")
    return Upload(name, session, data, sender)


def _picture_of(parts: list[FormPart]) -> FormPart:
    """The part with a file's name or a picture's type; there must be one and no more."""
    pictures = [part for part in parts if part.file_name or part.content_type.startswith("image/")]
    if len(pictures) != 1:
        raise InvalidRequest("每次请求应上传一幅图像")
    return pictures[0]


async def _body(receive: Any, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise InvalidRequest("连接中断，图像不完整")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise PayloadTooLarge(f"请求体超过 {limit} 字节")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise InvalidRequest("图像未在规定时间内传完") from error


def _client(scope: Any) -> str:
    return str(scope["client"][0]) if scope.get("client") else ""
