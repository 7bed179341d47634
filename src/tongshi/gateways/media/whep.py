"""WHEP: a browser's offer is posted with its ticket, and answered; deleting what was made ends the picture.

After: draft-ietf-wish-whep-03 (4.2 to 4.4), RFC 9725 4.3 (what it shares with WHIP)
The server is ICE lite and tells its one candidate in the answer, so nothing is left to trickle and nothing to
restart: PATCH is answered with 405, as RFC 9725 4.3 wants of such a server. The picture itself never comes
here: the engine sends it from its own UDP port.
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from tongshi.errors import InvalidRequest, NotFound, TongshiError, Unprocessable
from tongshi.gateways.media.door import A, Door
from tongshi.gateways.media.refusal import Refused

WHEP_PATH = "/whep/"
MAX_OFFER_BYTES = 64 * 1024
BODY_TIMEOUT_S = 5.0
PASS_OVER_S = 0.3

_ENDPOINT = re.compile(r"/whep/([0-9A-Za-z]{1,64})\Z", re.ASCII)
_SESSION = re.compile(r"/whep/([0-9A-Za-z]{1,64})/([0-9a-f]{32})\Z", re.ASCII)
_ELSE = "可改用 HTTP-FLV、WS-FLV 或 fMP4 观看"
_REFUSALS = {
    "off": f"本平台没有开启 WebRTC，{_ELSE}",
    "media": "WebRTC 请求须为只收的一路视频和至多一路 G.711 音频",
    "no video": f"该路没有可用 WebRTC 播放的视频，{_ELSE}",
}


@dataclass(frozen=True, slots=True)
class Post:
    """A request as far as WHEP needs it; ``body`` is what came of it with the head."""

    method: str
    path: str
    ticket: str
    client_host: str
    media_type: str = ""
    length: int | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def refusal(word: str) -> TongshiError:
    """The engine's word for an offer that it does not answer, as an error for its sender."""
    kind, _, codec = word.partition(" ")
    if kind == "codec":
        name = codec.upper() or "未知编码"
        return Unprocessable(
            f"视频编码为 {name}，此浏览器的 WebRTC 不支持，{_ELSE}",
            code=42203,
            field="protocol",
            details={"video": codec},
        )
    if word in _REFUSALS:
        return Unprocessable(_REFUSALS[word], code=42203, field="protocol")
    return InvalidRequest("不是可用的 SDP offer", field="body")


class WhepDesk(Generic[A]):
    """Answers WHEP requests that reached the viewers' listener."""

    def __init__(self, tickets: Door[A]) -> None:
        self._tickets = tickets

    async def answer(self, connection: socket.socket, post: Post) -> Answer:
        """Answer one request.

        Raises:
            Refused: a method, a type or a size that is not taken. NotFound: no such address.
            Unauthenticated, Forbidden, Gone: the ticket. InvalidRequest, Unprocessable: the offer.
        """
        if match := _ENDPOINT.match(post.path):
            return await self._endpoint(connection, post, match[1])
        if match := _SESSION.match(post.path):
            return self._session(post, match[1], match[2])
        raise NotFound("没有这个地址", code=40404)

    async def _endpoint(self, connection: socket.socket, post: Post, stream_id: str) -> Answer:
        if post.method == "OPTIONS":
            return _preflight("POST, OPTIONS", {"Accept-Post": "application/sdp"})
        if post.method != "POST":
            raise Refused(405, "只支持 POST", {"Allow": "POST, OPTIONS"})
        if post.media_type != "application/sdp":
            raise Refused(415, "请求体须为 application/sdp")
        offer = await _read_offer(connection, post)
        admission = await self._tickets.enter(stream_id, post.ticket, post.client_host)
        answer = (await self._tickets.connect(admission, offer)).encode()
        place = f"{WHEP_PATH}{stream_id}/{admission.session_id}?ticket={post.ticket}"
        fields = {
            "Content-Type": "application/sdp",
            "Content-Length": str(len(answer)),
            "Location": place,
            "Access-Control-Expose-Headers": "Location",
            "Connection": "close",
        }
        return Answer(201, fields, answer)

    def _session(self, post: Post, stream_id: str, session_id: str) -> Answer:
        if post.method == "OPTIONS":
            return _preflight("DELETE, OPTIONS", {})
        if post.method != "DELETE":
            raise Refused(405, "只支持 DELETE", {"Allow": "DELETE, OPTIONS"})
        self._tickets.leave(stream_id, session_id, post.ticket, post.client_host)
        return Answer(200, {"Content-Length": "0", "Connection": "close"})


async def _read_offer(connection: socket.socket, post: Post) -> str:
    if post.length is None:
        raise Refused(411, "须给出 Content-Length")
    if post.length > MAX_OFFER_BYTES:
        await _pass_over(connection)
        raise Refused(413, "SDP 过大")
    loop, data = asyncio.get_running_loop(), post.body
    async with asyncio.timeout(BODY_TIMEOUT_S):
        while len(data) < post.length:
            part = await loop.sock_recv(connection, post.length - len(data))
            if not part:
                raise ConnectionResetError
            data += part
    try:
        return data[: post.length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("SDP 不是 UTF-8", field="body") from error


async def _pass_over(connection: socket.socket) -> None:
    """Read what is on its way, within bounds: closed with bytes unread, the refusal is lost with them."""
    loop, left = asyncio.get_running_loop(), 4 * MAX_OFFER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(PASS_OVER_S):
            while left > 0 and (part := await loop.sock_recv(connection, MAX_OFFER_BYTES)):
                left -= len(part)


def _preflight(methods: str, more: dict[str, str]) -> Answer:
    fields = {
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": "600",
        **more,
        "Content-Length": "0",
        "Connection": "close",
    }
    return Answer(204, fields)
