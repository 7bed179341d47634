"""A double of ZLMediaKit's HTTP interface over our own engine: real RTP in, real FLV and fMP4 out.

It keeps the contract that ``gateways.media.nodes.zlmediakit`` uses and nothing else: commands by form with a
secret, answers with ``code``, viewers at ``/rtp/{stream}.live.flv`` whom it asks about by ``on_play``. How a
real server behaves under load is not in it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import msgspec

from tongshi._media import Engine
from tongshi.errors import TongshiError
from tongshi.gateways.media.engine import AsyncEngine, EngineIngest
from tongshi.gateways.media.viewer_server import parse_head
from tongshi.resources.viewing.media_ports import Promise
from tongshi.resources.viewing.model import Transport

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 64 * 1024
_MODES = {"0": Transport.UDP, "1": Transport.TCP_PASSIVE, "2": Transport.TCP_ACTIVE}
_NAMES = {"h264": "H264", "h265": "H265", "g711a": "PCMA", "g711u": "PCMU", "aac": "mpeg4-generic"}
_CONTAINERS = {".live.flv": "flv", ".live.mp4": "fmp4"}

Fields = Mapping[str, str]


class ZlmDouble:
    """One server on loopback."""

    def __init__(self, secret: str = "of-a-test") -> None:  # noqa: S107
        self.secret = secret
        self.port = 0
        self.config: dict[str, str] = {}
        self.commands: list[str] = []
        self._engine = AsyncEngine(Engine(), HOST)
        self._ingests: dict[str, EngineIngest] = {}
        self._players: dict[str, tuple[EngineIngest, int]] = {}
        self._relays: dict[str, tuple[EngineIngest, int]] = {}
        self._http = httpx2.AsyncClient(timeout=5.0, trust_env=False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._answers: dict[str, Callable[[Fields], Awaitable[dict[str, Any]]]] = {
            "getServerConfig": self._get_config,
            "setServerConfig": self._set_config,
            "openRtpServer": self._open,
            "closeRtpServer": self._close,
            "listRtpServer": self._list,
            "updateRtpServerSSRC": self._expect,
            "connectRtpServer": self._connect,
            "getMediaList": self._media,
            "getThreadsLoad": self._load,
            "startSendRtp": self._send,
            "startSendRtpPassive": self._send,
            "stopSendRtp": self._stop_sending,
            "kick_session": self._kick,
        }

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port when started anew."""
        self._listener = socket.create_server((HOST, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._engine.start()
        self._begin(self._accept(self._listener))

    async def stop(self) -> None:
        """Die: nothing is said to anybody."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
        await self._engine.stop()
        await self._http.aclose()

    def _begin(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, address = await asyncio.get_running_loop().sock_accept(listener)
            self._begin(self._serve(connection, str(address[0])))

    async def _serve(self, connection: socket.socket, client: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(10):
                head, body = await _request(connection)
            method, target = head.split(" ")[:2]
            if method == "POST":
                answer = msgspec.json.encode(await self._command(target, body))
                await loop.sock_sendall(connection, _head(200, "application/json", len(answer)) + answer)
            else:
                await self._play(connection, target, client)
        except (OSError, TimeoutError, TongshiError):
            pass
        finally:
            connection.close()

    async def _command(self, target: str, body: bytes) -> dict[str, Any]:
        fields = dict(parse_qsl(body.decode()))
        command = target.removeprefix("/index/api/")
        self.commands.append(command)
        if fields.get("secret") != self.secret:
            return {"code": -100, "msg": "Incorrect secret"}
        if command not in self._answers:
            return {"code": -500, "msg": f"unknown api {command}"}
        try:
            return {"code": 0, **await self._answers[command](fields)}
        except (TongshiError, KeyError) as error:
            return {"code": -1, "msg": str(error)}

    async def _hook(self, name: str, **told: object) -> dict[str, Any]:
        url = self.config.get(f"hook.{name}", "")
        if not url or self.config.get("hook.enable") != "1":
            return {"code": 0}
        try:
            response = await self._http.post(url, json={"mediaServerId": "double", **told})
        except httpx2.HTTPError:
            return {"code": -1, "msg": "hook unreachable"}
        answer: dict[str, Any] = response.json()
        return answer

    async def _set_config(self, fields: Fields) -> dict[str, Any]:
        changed = {name: value for name, value in fields.items() if name != "secret"}
        self.config.update(changed)
        return {"changed": len(changed)}

    async def _get_config(self, fields: Fields) -> dict[str, Any]:
        return {"data": [self.config]}

    async def _open(self, fields: Fields) -> dict[str, Any]:
        stream = fields["stream_id"]
        ingest = self._ingests[stream] = await self._engine.open(stream, _MODES[fields["tcp_mode"]])
        self._begin(self._tell(stream, ingest))
        return {"port": ingest.port}

    async def _tell(self, stream: str, ingest: EngineIngest) -> None:
        """What a server says of a stream as it comes, and when its sender is gone."""
        await ingest.first_packet.wait()
        await self._hook("on_publish", app="rtp", stream=stream, schema="rtp")
        await ingest.first_key_frame.wait()
        await self._hook("on_stream_changed", app="rtp", stream=stream, schema="rtsp", regist=True)
        await ingest.ended.wait()
        await self._hook("on_flow_report", app="rtp", stream=stream, player=False, totalBytes=1)

    async def _close(self, fields: Fields) -> dict[str, Any]:
        ingest = self._ingests.pop(fields["stream_id"], None)
        if ingest is not None:
            await ingest.close()
        return {"hit": int(ingest is not None)}

    async def _list(self, fields: Fields) -> dict[str, Any]:
        return {"data": [{"port": i.port, "stream_id": s} for s, i in self._ingests.items()]}

    async def _expect(self, fields: Fields) -> dict[str, Any]:
        await self._ingests[fields["stream_id"]].expect(Promise(int(fields["ssrc"])))
        return {}

    async def _connect(self, fields: Fields) -> dict[str, Any]:
        await self._ingests[fields["stream_id"]].connect(fields["dst_url"], int(fields["dst_port"]))
        return {}

    async def _media(self, fields: Fields) -> dict[str, Any]:
        ingest = self._ingests.get(fields["stream"])
        if ingest is None or not ingest.first_key_frame.is_set():
            return {"data": []}
        now = await ingest.figures()
        codec, is_flowing = now.codec, now.silent_s is not None and now.silent_s < 1
        video = {"codec_type": 0, "codec_id_name": _NAMES.get(codec.video, codec.video), "loss": 0.0}
        video |= {"width": codec.width, "height": codec.height, "frames": now.packets}
        sound = {"codec_type": 1, "codec_id_name": _NAMES.get(codec.audio, codec.audio), "frames": 1}
        tracks = [video] if not codec.audio else [video, sound]
        media = {"stream": fields["stream"], "schema": "rtsp", "bytesSpeed": 500_000 * is_flowing}
        return {"data": [{**media, "tracks": tracks}]}

    async def _load(self, fields: Fields) -> dict[str, Any]:
        return {"data": [{"load": 3, "delay": 0}]}

    async def _send(self, fields: Fields) -> dict[str, Any]:
        ingest, ssrc = self._ingests[fields["stream"]], fields["ssrc"]
        if "dst_url" not in fields:
            transport = Transport.TCP_PASSIVE
        else:
            transport = Transport.UDP if fields["is_udp"] == "1" else Transport.TCP_ACTIVE
        host, port = fields.get("dst_url", HOST), int(fields.get("dst_port", 0))
        number, local = await ingest.relay(transport, host, port, int(ssrc), lambda _: None)
        self._relays[ssrc] = (ingest, number)
        return {"local_port": local}

    async def _stop_sending(self, fields: Fields) -> dict[str, Any]:
        ingest, number = self._relays.pop(fields["ssrc"])
        await ingest.drop_relay(number)
        return {}

    async def _kick(self, fields: Fields) -> dict[str, Any]:
        ingest, number = self._players.pop(fields["id"])
        await ingest.detach(number)
        return {}

    async def _play(self, connection: socket.socket, target: str, client: str) -> None:
        url, loop = urlsplit(target), asyncio.get_running_loop()
        name, dot, suffix = url.path.removeprefix("/rtp/").partition(".")
        ingest, container = self._ingests.get(name), _CONTAINERS.get(dot + suffix)
        player = f"{client}-{connection.fileno()}-{len(self.commands)}"
        told = {"app": "rtp", "stream": name, "params": url.query, "ip": client, "id": player}
        answer = await self._hook("on_play", **told)
        if answer["code"] != 0 or ingest is None or container is None:
            await loop.sock_sendall(connection, _head(404, "text/plain", 0))
            return

        def left(_: str) -> None:
            self._players.pop(player, None)
            self._begin(self._hook("on_flow_report", **told, player=True, totalBytes=4321))

        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n"
        number = await ingest.attach(container, connection.detach(), head, left)
        self._players[player] = (ingest, number)


async def _request(connection: socket.socket) -> tuple[str, bytes]:
    """A request's first line and its body."""
    loop, data = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in data and len(data) < MAX_REQUEST_BYTES:
        part = await loop.sock_recv(connection, 4096)
        if not part:
            raise ConnectionResetError
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    parse_head(head)
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    want = min(int(lengths[0]) if lengths else 0, MAX_REQUEST_BYTES)
    while len(body) < want:
        body += await loop.sock_recv(connection, want - len(body))
    return head.decode("latin-1").split("\r\n")[0], body


def _head(status: int, kind: str, length: int) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
