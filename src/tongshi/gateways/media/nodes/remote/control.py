"""The node's end: the control interface, a small HTTP listener that only its platform is answered by.

Every call is a POST, signed (``seal``) and bounded; what is not is answered in the same few words, counted,
and reported at most once a second. The verbs stand in ``wire``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tongshi.errors import Conflict, NotFound, TongshiError, Unauthenticated
from tongshi.gateways.certificates import OwnCertificate
from tongshi.gateways.media.nodes.remote import wire
from tongshi.gateways.media.nodes.remote.door import NodeDoor
from tongshi.gateways.media.nodes.remote.seal import Seal
from tongshi.gateways.media.nodes.remote.station import Station
from tongshi.web.reading import check_digest, decode, read_body

log = structlog.get_logger(__name__)

MAX_AT_ONCE = 200
REPORT_S = 1.0

_T = TypeVar("_T", bound=msgspec.Struct)
Handler = Callable[[bytes], Awaitable[msgspec.Struct]]


class Control:
    """Listens for the platform.

    Args:
        port: 0 lets the system choose; see ``port`` after ``start``.
        certificate: None speaks plain HTTP.
    """

    def __init__(
        self,
        station: Station,
        door: NodeDoor,
        seal: Seal,
        host: str,
        port: int,
        certificate: OwnCertificate | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self._certificate = certificate
        self._station, self._door, self._seal = station, door, seal
        self._refused = 0
        self._reporting: asyncio.TimerHandle | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._verbs: dict[str, Handler] = {
            "news": _reads(wire.NewsCall, self._news),
            "reply": _reads(wire.Reply, self._reply),
            "open": _reads(wire.OpenCall, self._open),
            "announce": _reads(wire.AnnounceCall, self._announce),
            "expect": _reads(wire.ExpectCall, self._expect),
            "connect": _reads(wire.ConnectCall, self._connect),
            "close": _reads(wire.StreamCall, self._close),
            "figures": _reads(wire.StreamCall, self._figures),
            "pictures": _reads(wire.StreamCall, self._pictures),
            "relay": _reads(wire.RelayCall, self._relay),
            "drop": _reads(wire.DropCall, self._drop),
            "detach": _reads(wire.DetachCall, self._detach),
        }

    async def start(self) -> None:
        """Listen. Raises OSError: the port is taken."""
        app = Starlette(routes=[Route("/media/{version}/{verb}", self._take, methods=["POST"])])
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self.port), family=family)
        self.port = listener.getsockname()[1]
        tls = None if self._certificate is None else self._certificate.serving()
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=MAX_AT_ONCE,
            timeout_graceful_shutdown=1,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = _Server(config)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Stop listening; who waits for news is answered first, because the station has ended its life."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._server = self._serving = None
        if self._reporting is not None:
            self._reporting.cancel()

    async def _take(self, request: Request) -> Response:
        try:
            said = self._seal.check("POST", request.url.path, request.url.query, request.headers)
            body = await read_body(request, wire.MAX_CALL_BYTES)
            check_digest(body, said.body_digest)
            _check_version(request.path_params["version"])
            return _answer(200, await self._do(request.path_params["verb"], said.signable.on_behalf, body))
        except TongshiError as error:
            if isinstance(error, Unauthenticated):
                self._count_refused()
            return _answer(error.http_status, wire.Refusal(code=error.code, message=error.message))
        except Exception:
            log.exception("media_node_call_failed", verb=request.path_params["verb"])
            return _answer(500, wire.Refusal(code=50000, message="媒体节点内部错误"))

    async def _do(self, verb: str, owner: str, body: bytes) -> msgspec.Struct:
        if verb == "look":
            return msgspec.structs.replace(await self._station.look(owner), trouble=self._trouble())
        handler = self._verbs.get(verb)
        if handler is None:
            raise NotFound("没有这个命令", code=40404)
        self._station.hear(owner)
        return await handler(body)

    async def _news(self, call: wire.NewsCall) -> wire.NewsList:
        return wire.NewsList(news=await self._station.news(call.boot, call.after, wire.NEWS_WAIT_S))

    async def _reply(self, call: wire.Reply) -> wire.Empty:
        self._door.answered(call)
        return wire.Empty()

    async def _open(self, call: wire.OpenCall) -> wire.Opened:
        return wire.Opened(port=await self._station.open(call))

    async def _announce(self, call: wire.AnnounceCall) -> wire.Empty:
        await self._station.find(call.stream).ingest.announce(call.ssrc)
        return wire.Empty()

    async def _expect(self, call: wire.ExpectCall) -> wire.Empty:
        await self._station.find(call.stream).ingest.expect(call.promise)
        return wire.Empty()

    async def _connect(self, call: wire.ConnectCall) -> wire.Empty:
        await self._station.find(call.stream).ingest.connect(call.host, call.port)
        return wire.Empty()

    async def _close(self, call: wire.StreamCall) -> wire.Empty:
        await self._station.close(call.stream)
        return wire.Empty()

    async def _figures(self, call: wire.StreamCall) -> wire.Figures:
        return wire.Figures(figures=await self._station.find(call.stream).ingest.figures())

    async def _pictures(self, call: wire.StreamCall) -> wire.Pictures:
        return wire.Pictures(data=await self._station.find(call.stream).ingest.group_of_pictures())

    async def _relay(self, call: wire.RelayCall) -> wire.Opened:
        return wire.Opened(port=await self._station.relay(call))

    async def _drop(self, call: wire.DropCall) -> wire.Empty:
        await self._station.drop_relay(call.stream, call.relay)
        return wire.Empty()

    async def _detach(self, call: wire.DetachCall) -> wire.Detached:
        return wire.Detached(sent=await self._station.detach(call.stream, call.viewer))

    def _trouble(self) -> str:
        if self._certificate is None:
            return ""
        self._certificate.look()
        return self._certificate.trouble

    def _count_refused(self) -> None:
        self._refused += 1
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(REPORT_S, self._report)

    def _report(self) -> None:
        log.warning("media_node_calls_refused", count=self._refused)
        self._refused, self._reporting = 0, None


class _Server(uvicorn.Server):
    """Signals are the process's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _reads(shape: type[_T], work: Callable[[_T], Awaitable[msgspec.Struct]]) -> Handler:
    async def handler(body: bytes) -> msgspec.Struct:
        return await work(decode(body, shape))

    return handler


def _check_version(version: str) -> None:
    if version != f"v{wire.VERSION}":
        words = f"媒体节点的控制接口为第 {wire.VERSION} 版，平台按 {version[:8]} 调用，请把两端升级到同一版本"
        raise Conflict(words)


def _answer(status: int, said: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(said), status, media_type="application/json")
