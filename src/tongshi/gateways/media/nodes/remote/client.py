"""The platform's end: one signed call to a media node of ours, bounded in time and size."""

from __future__ import annotations

from typing import TypeVar

import httpx2
import msgspec

from tongshi.errors import Conflict, NotFound, PeerFailed, PeerTimeout, TongshiError, Unavailable
from tongshi.exchange.signing import Signer
from tongshi.gateways.media.nodes.remote.tls import trusting, words_of
from tongshi.gateways.media.nodes.remote.wire import MAX_ANSWER_BYTES, PREFIX, VERSION, Refusal

ANSWER_LIMIT_S = 3.0
MAX_CONNECTIONS = 32
NO_CONTROL = f"该地址没有第 {VERSION} 版的媒体节点控制接口：api 填写有误，或节点的版本与平台不同"
_HINTS = {40102: "，请核对两端的 secret、平台编码和节点名称"}  # by the node's code

_T = TypeVar("_T")


class Client:
    """Closed by ``close``.

    Args:
        api: where the node is commanded, such as ``http://192.0.2.30:8083``.
        owner: names this process of the platform; a node ends what another one opened.
        ca: file of the certificates that are believed, for ``https``; "" is what the system believes.

    Raises:
        InvalidRequest: the file cannot be used.
    """

    def __init__(self, api: str, signer: Signer, owner: str, ca: str = "") -> None:
        self._api = api.rstrip("/")
        self._signer = signer
        self._owner = owner
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS)
        self._http = httpx2.AsyncClient(
            timeout=ANSWER_LIMIT_S,
            trust_env=False,
            follow_redirects=False,
            limits=limits,
            verify=trusting(ca),
        )

    async def call(
        self, verb: str, said: msgspec.Struct, answer: type[_T], limit_s: float = ANSWER_LIMIT_S
    ) -> _T:
        """Call the node and read its answer.

        Raises:
            NotFound: no such stream (40404). Conflict: it is in another life or another's (40901).
            Unavailable: it has no room (50302). PeerTimeout: no answer in time.
            PeerFailed: refused otherwise, unreachable, or not readable.
        """
        status, data = await self._fetch(verb, msgspec.json.encode(said), limit_s)
        try:
            if status == 200:
                return msgspec.json.decode(data, type=answer)
            refusal = msgspec.json.decode(data, type=Refusal)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            if status in (404, 405):
                raise PeerFailed(NO_CONTROL) from error
            raise PeerFailed(f"媒体节点对 {verb} 的应答无法解析") from error
        raise _error(status, refusal)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _fetch(self, verb: str, body: bytes, limit_s: float) -> tuple[int, bytes]:
        path, data = PREFIX + verb, b""
        headers = self._signer.headers("POST", path, "", body, self._owner)
        headers["Content-Type"] = "application/json"
        try:
            async with self._http.stream(
                "POST", self._api + path, content=body, headers=headers, timeout=limit_s
            ) as response:
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise PeerFailed("媒体节点应答过大")
                return response.status_code, data
        except httpx2.TimeoutException as error:
            raise PeerTimeout("媒体节点未在规定时间内应答") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PeerFailed(f"无法连接媒体节点：{words_of(error)}") from error


def _error(status: int, refusal: Refusal) -> TongshiError:
    """Its refusal as ours; of other statuses only the words are passed on."""
    if status == NotFound.http_status:
        return NotFound(refusal.message, code=40404)
    if status == Conflict.http_status:
        return Conflict(refusal.message)
    if status == Unavailable.http_status:
        return Unavailable(refusal.message, code=50302, retry_after_s=5)
    words = f"{refusal.message}{_HINTS.get(refusal.code, '')}"
    return PeerFailed(f"媒体节点拒绝：{words}", details={"nodeCode": refusal.code})
