"""The HTTP interface of one ZLMediaKit: commands by query, answers as JSON with a code of their own.

Every call carries the secret and is bounded in time and size. A code other than 0 is a refusal with the
server's words; no answer, or one that cannot be read, is a failure of the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
import msgspec

from tongshi.errors import PeerFailed, PeerTimeout

ANSWER_LIMIT_S = 3.0  # from the first byte asked to the last answered
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # listRtpServer of some thousand streams

_T = TypeVar("_T")


class _Head(msgspec.Struct, frozen=True):
    code: int
    msg: str = ""


class Client:
    """Closed by ``close``.

    Args:
        api: base of the interface, such as ``http://192.0.2.20:8080``.
        secret: ``api.secret`` of the server's configuration.
    """

    def __init__(self, api: str, secret: str) -> None:
        self._api = api.rstrip("/")
        self._secret = secret
        timeout = httpx2.Timeout(ANSWER_LIMIT_S)
        self._http = httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False)

    async def call(self, command: str, answer: type[_T], **fields: object) -> _T:
        """Send one command (``openRtpServer``) and read its answer.

        Raises:
            PeerTimeout: no answer in time. PeerFailed: refused, unreachable, or not readable.
        """
        data = await self._fetch(command, {"secret": self._secret, **{k: str(v) for k, v in fields.items()}})
        try:
            head = msgspec.json.decode(data, type=_Head)
            if head.code == 0:
                return msgspec.json.decode(data, type=answer)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise PeerFailed(f"媒体节点对 {command} 的应答无法解析") from error
        raise PeerFailed(f"媒体节点拒绝 {command}：{head.msg or head.code}", details={"nodeCode": head.code})

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _fetch(self, command: str, fields: Mapping[str, str]) -> bytes:
        url, data = f"{self._api}/index/api/{command}", b""
        try:
            async with (
                asyncio.timeout(ANSWER_LIMIT_S),  # the client's own limit is of each wait, not of the whole
                self._http.stream("POST", url, data=dict(fields)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise PeerFailed("媒体节点应答过大")
                if response.status_code != 200:
                    raise PeerFailed(f"媒体节点应答 HTTP {response.status_code}")
                return data
        except (httpx2.TimeoutException, TimeoutError) as error:
            raise PeerTimeout("媒体节点未在规定时间内应答") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PeerFailed(f"无法连接媒体节点：{type(error).__name__}") from error


class Done(msgspec.Struct, frozen=True):
    """An answer of which nothing is read."""


class RtpPort(msgspec.Struct, frozen=True):
    """``openRtpServer``: the port it listens on."""

    port: int


class SendingPort(msgspec.Struct, frozen=True):
    """``startSendRtp``: the port it sends from."""

    local_port: int


class RtpServer(msgspec.Struct, frozen=True):
    """One receiving end that is open."""

    stream_id: str
    port: int = 0


class RtpServers(msgspec.Struct, frozen=True):
    """``listRtpServer``."""

    data: list[RtpServer] = msgspec.field(default_factory=list)


class Track(msgspec.Struct, frozen=True):
    """One track of a stream; ``codec_type`` 0 is video, 1 is sound; ``loss`` is a share, -1 unknown."""

    codec_type: int
    codec_id_name: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    loss: float = -1.0


class Media(msgspec.Struct, frozen=True, rename={"bytes_speed": "bytesSpeed"}):
    """One stream in one protocol."""

    stream: str
    schema: str = ""
    bytes_speed: float = 0
    tracks: list[Track] = msgspec.field(default_factory=list)


class MediaList(msgspec.Struct, frozen=True):
    """``getMediaList``."""

    data: list[Media] = msgspec.field(default_factory=list)


class ServerConfig(msgspec.Struct, frozen=True):
    """``getServerConfig``: one set of names and values."""

    data: list[dict[str, str]] = msgspec.field(default_factory=list)


class ThreadLoad(msgspec.Struct, frozen=True):
    """One network thread; ``load`` in per cent."""

    load: float = 0


class ThreadLoads(msgspec.Struct, frozen=True):
    """``getThreadsLoad``."""

    data: list[ThreadLoad] = msgspec.field(default_factory=list)


def hooks(base: str) -> dict[str, Any]:
    """The configuration that makes the server ask and tell us; ``base`` ends with a slash."""
    names = (
        "on_play",
        "on_publish",
        "on_flow_report",
        "on_stream_changed",
        "on_stream_none_reader",
        "on_rtp_server_timeout",
        "on_send_rtp_stopped",
        "on_server_started",
    )
    return {"hook.enable": 1, "general.flowThreshold": 0, **{f"hook.{n}": f"{base}{n}" for n in names}}
