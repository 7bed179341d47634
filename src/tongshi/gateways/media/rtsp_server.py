"""RTSP for tools: describes a stream, sets it up within the connection, and hands the socket to the engine.

What comes before PLAY is read here, bounded in size, number and time; from PLAY on the engine writes RTP
between its answers to what the client still says (``native/src/viewer/rtsp.rs``). RTP goes within the
connection, or by UDP to the host that the connection comes from, when there are ports for it; without, who
asks for UDP gets 461, upon which clients ask for TCP. A client over UDP of whom neither a request nor a
report came for ``SESSION_TIMEOUT_S`` is ended, and so is one whose connection closed. The ticket in the
address is looked at by each request and taken by PLAY. Not here: sending to us (ANNOUNCE, RECORD), pause and
seek.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Final, Generic

import structlog

from tongshi.errors import NotFound, RemoteViolation, TongshiError
from tongshi.gateways.media.door import A, Door
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.listener import Listener, read_head
from tongshi.gateways.media.rtsp_ports import PortPair, PortRange
from tongshi.protocols.media.rtsp import (
    CHANNELS,
    MAX_HEAD_BYTES,
    Carriage,
    Request,
    Target,
    choose_carriage,
    parse_request,
    parse_url,
    render_response,
    sdp,
    tracks_of,
)
from tongshi.resources.viewing.media_ports import Datagrams

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S: Final = 10.0
SESSION_TIMEOUT_S = 60.0
MAX_REQUESTS: Final = 20  # before PLAY; a client needs four or five
_METHODS: Final = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
_CONTAINERS: Final = {("audio", "video"): "rtp", ("video",): "rtp-video", ("audio",): "rtp-audio"}


class _Answered(Exception):
    """A request that is answered with a status and leaves the conversation as it was."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class RtspServer(Generic[A]):
    """Listens for RTSP clients of ``rtsp://.../live/{streamId}?ticket=``; without ``ports`` none uses UDP."""

    def __init__(
        self, tickets: Door[A], engine: AsyncEngine, host: str, port: int, ports: PortRange | None = None
    ) -> None:
        self._ports = ports or PortRange(0, 0)
        self._tickets = tickets
        self._engine = engine
        self._listener = Listener(host, port, self._serve)

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._listener.start()

    async def stop(self) -> None:
        """Stop listening and end those who do not play yet."""
        await self._listener.stop()

    async def _serve(self, connection: socket.socket, client_host: str) -> None:
        talk = _Conversation(self._tickets, self._engine, self._ports, connection, client_host)
        held = b""
        try:
            for _ in range(MAX_REQUESTS):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    read = await read_head(connection, held, MAX_HEAD_BYTES)
                if read is None:
                    return
                head, held = read
                if not await talk.answer(parse_request(head), has_more=bool(held)):
                    return
        except (OSError, TimeoutError, RemoteViolation):
            pass
        except Exception:
            log.exception("rtsp_request_failed")
        finally:
            talk.close()


class _Conversation(Generic[A]):
    """One client up to PLAY."""

    def __init__(
        self,
        tickets: Door[A],
        engine: AsyncEngine,
        ports: PortRange,
        connection: socket.socket,
        client_host: str,
    ) -> None:
        self._ports = ports
        self._tickets = tickets
        self._engine = engine
        self._connection = connection
        self._client_host = client_host
        self._session = secrets.token_hex(8)
        self._tracks: dict[str, PortPair | None] = {}

    def close(self) -> None:
        """Give back the ports that the engine did not take."""
        for pair in self._tracks.values():
            if pair is not None:
                pair.close()

    async def answer(self, request: Request, *, has_more: bool) -> bool:
        """Whether the conversation goes on here. Raises OSError, TimeoutError: the client is gone."""
        try:
            return await self._take(request, has_more)
        except _Answered as answered:
            await self._send(answered.status, request, {})
        except RemoteViolation:
            await self._send(400, request, {})
        except TongshiError as error:
            if self._connection.fileno() < 0:
                return False  # the engine had it already
            await self._send(error.http_status, request, {"X-Error-Code": str(error.code)})
        return True

    async def _take(self, request: Request, has_more: bool) -> bool:
        match request.method:
            case "OPTIONS" | "GET_PARAMETER":
                await self._send(200, request, {"Public": _METHODS})
            case "DESCRIBE":
                await self._describe(request)
            case "SETUP":
                await self._set_up(request)
            case "PLAY":
                await self._play(request, has_more)
                return False
            case "TEARDOWN":
                await self._send(200, request, {})
                return False
            case _:
                raise _Answered(501)
        return True

    async def _describe(self, request: Request) -> None:
        target = await self._look(request)
        found = await self._engine.describe(target.stream_id)
        if not tracks_of(found):
            raise _Answered(415)
        fields = {"Content-Base": request.url, "Content-Type": "application/sdp"}
        await self._send(200, request, fields, sdp(found, request.url))

    async def _set_up(self, request: Request) -> None:
        target = await self._look(request)
        if target.track not in tracks_of(await self._engine.describe(target.stream_id)):
            raise NotFound("没有这一路", code=40404) if target.track else _Answered(459)
        offered = request.fields.get("transport", "")
        carriage = choose_carriage(offered, self._client_host, has_udp=len(self._ports) > 0)
        others = [pair is None for track, pair in self._tracks.items() if track != target.track]
        if carriage is None or (carriage.client_port == 0) in [not one for one in others]:
            raise _Answered(461)  # both tracks go the same way
        transport = self._carry(target.track, carriage)
        session = f"{self._session};timeout={round(SESSION_TIMEOUT_S)}"
        await self._send(200, request, {"Session": session, "Transport": transport})

    def _carry(self, track: str, carriage: Carriage) -> str:
        """Take note of a track's way; what its Transport header says. Raises Unavailable: no ports left."""
        before = self._tracks.pop(track, None)
        if before is not None:
            before.close()
        if not carriage.client_port:
            self._tracks[track] = None
            return f"RTP/AVP/TCP;unicast;interleaved={CHANNELS[track]}"
        local_host = str(self._connection.getsockname()[0])
        pair = self._tracks[track] = self._ports.open(local_host, self._client_host, carriage.client_port)
        ours, theirs = (f"{port}-{port + 1}" for port in (pair.port, carriage.client_port))
        return f"RTP/AVP;unicast;client_port={theirs};server_port={ours}"

    async def _play(self, request: Request, has_more: bool) -> None:
        if not self._tracks:
            raise _Answered(455)
        if has_more:
            raise _Answered(400)  # what comes behind is the engine's to read
        target = parse_url(request.url)
        container = _CONTAINERS[tuple(sorted(self._tracks))]
        admission = await self._tickets.enter(
            target.stream_id, target.ticket, self._client_host, container=container
        )
        head = render_response(200, request.sequence, {"Session": self._session, "Range": "npt=now-"})
        datagrams = self._datagrams()
        await self._tickets.serve(
            admission, container, self._connection.detach(), head, "rtsp", datagrams=datagrams
        )

    def _datagrams(self) -> Datagrams | None:
        """The ports, which are the engine's from here on; None within the connection."""
        pairs, self._tracks = self._tracks, {}
        handed = [
            (int(CHANNELS[track].partition("-")[0]), pair.rtp.detach(), pair.rtcp.detach())
            for track, pair in pairs.items()
            if pair is not None
        ]
        return Datagrams(tuple(handed), SESSION_TIMEOUT_S) if handed else None

    async def _look(self, request: Request) -> Target:
        target = parse_url(request.url)
        await self._tickets.inspect(target.stream_id, target.ticket, self._client_host)
        return target

    async def _send(self, status: int, request: Request, fields: dict[str, str], body: bytes = b"") -> None:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            data = render_response(status, request.sequence, fields, body)
            await asyncio.get_running_loop().sock_sendall(self._connection, data)
