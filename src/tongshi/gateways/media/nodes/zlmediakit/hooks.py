"""The hooks of ZLMediaKit: it asks whether a viewer may see, and tells what happened to streams.

A small HTTP listener of its own. The address that a node calls carries its name and a secret made at start;
without both the answer is 404. Bodies are bounded. A viewer is admitted by the same ticket, and from the
same address, as at our own listener.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tongshi.errors import TongshiError
from tongshi.gateways.media.nodes.zlmediakit.ingest import APP
from tongshi.gateways.media.nodes.zlmediakit.node import ZlmNode
from tongshi.resources.viewing.tickets import Tickets

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_FIELDS = 10


class Told(msgspec.Struct, frozen=True, rename={"total_bytes": "totalBytes"}):
    """What of a hook's body is read; ``id`` is the server's name of a viewer, ``ip`` its address."""

    app: str = ""
    stream: str = ""
    stream_id: str = ""
    id: str = ""
    ip: str = ""
    params: str = ""
    player: bool = False
    regist: bool = False
    total_bytes: int = 0
    ssrc: str | int = ""


class Hooks:
    """Listens for the hooks of all nodes.

    Args:
        port: 0 lets the system choose; see ``base`` after ``start``.
        reach: the address under which nodes reach this listener; "" is ``host``.
    """

    def __init__(self, tickets: Callable[[], Tickets], host: str, port: int, reach: str = "") -> None:
        self._tickets = tickets
        self._host, self._port, self._reach = host, port, reach or host
        self._secret = secrets.token_urlsafe(24)
        self._nodes: dict[str, ZlmNode] = {}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handlers: Mapping[str, Callable[[ZlmNode, Told], None]] = {
            "on_publish": self._published,
            "on_flow_report": self._flowed,
            "on_stream_changed": self._changed,
            "on_stream_none_reader": lambda node, told: None,
            "on_rtp_server_timeout": self._timed_out,
            "on_send_rtp_stopped": self._relay_stopped,
            "on_server_started": lambda node, told: node.restarted(),
        }

    def add(self, node: ZlmNode) -> None:
        """Take the hooks of this node."""
        self._nodes[node.name] = node

    def base(self, name: str) -> str:
        """What the addresses of a node's hooks begin with."""
        return f"http://{self._reach}:{self._port}/{name}/{self._secret}/"

    async def start(self) -> None:
        """Listen. Raises OSError: the port is taken."""
        app = Starlette(routes=[Route("/{node}/{secret}/{hook}", self._take, methods=["POST"])])
        listener = socket.create_server((self._host, self._port))
        self._port = listener.getsockname()[1]
        self._server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._server = self._serving = None

    async def _take(self, request: Request) -> Response:
        node = self._nodes.get(request.path_params["node"])
        hook = request.path_params["hook"]
        is_known = hmac.compare_digest(request.path_params["secret"], self._secret)
        if node is None or not is_known or hook not in (*self._handlers, "on_play"):
            return JSONResponse({"code": -1, "msg": "not found"}, status_code=404)
        told = await _read(request)
        if told is None:
            return JSONResponse({"code": -1, "msg": "unreadable"}, status_code=400)
        if hook == "on_play":
            return JSONResponse(self._play(node, told))
        self._handlers[hook](node, told)
        return JSONResponse({"code": 0, "msg": "success", "close": False})

    def _play(self, node: ZlmNode, told: Told) -> dict[str, object]:
        """Whether a viewer may see: the ticket in its address, given to its address, for this stream."""
        ingest = node.find(told.stream) if told.app == APP else None
        try:
            admission = self._tickets().admit(told.stream, _ticket(told.params), told.ip)
        except TongshiError as error:
            log.info("viewer_refused_at_node", node=node.name, error=error.message)
            return {"code": error.code, "msg": error.message}
        if ingest is None:
            return {"code": 40404, "msg": "视频流不存在"}
        number = ingest.admitted(told.id)
        ingest.tell_when_left(number, self._tickets().serve_at_node(admission, number))
        return {"code": 0, "msg": "success"}

    def _published(self, node: ZlmNode, told: Told) -> None:
        if (ingest := node.find(told.stream)) is not None:
            ingest.first_packet.set()

    def _changed(self, node: ZlmNode, told: Told) -> None:
        ingest = node.find(told.stream) if told.app == APP else None
        if ingest is not None and told.regist:
            ingest.first_packet.set()
            ingest.first_key_frame.set()

    def _flowed(self, node: ZlmNode, told: Told) -> None:
        ingest = node.find(told.stream)
        if ingest is None:
            return
        if told.player:
            ingest.player_left(told.id, told.total_bytes)
        else:
            ingest.ended.set()  # the sender's connection is over

    def _timed_out(self, node: ZlmNode, told: Told) -> None:
        ingest = node.find(told.stream_id)
        if ingest is not None and ingest.first_packet.is_set():
            ingest.ended.set()  # before the first packet our own limits decide

    def _relay_stopped(self, node: ZlmNode, told: Told) -> None:
        if (ingest := node.find(told.stream)) is not None:
            ingest.relay_stopped(str(told.ssrc))


class _Server(uvicorn.Server):
    """Signals are the platform's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _read(request: Request) -> Told | None:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            return None
    try:
        return msgspec.json.decode(data, type=Told)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _ticket(params: str) -> str:
    try:
        return parse_qs(params, max_num_fields=MAX_QUERY_FIELDS).get("ticket", [""])[0]
    except ValueError:
        return ""
