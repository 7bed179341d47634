"""The platform's end: one signed call to a media node of ours, bounded in time and size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import msgspec
import structlog

from tongshi.clock import Clock
from tongshi.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PeerFailed,
    PeerTimeout,
    TongshiError,
    Unavailable,
)
from tongshi.exchange.signing import Signer
from tongshi.gateways.certificates import WatchedFiles
from tongshi.gateways.media.nodes.remote.tls import trusting, words_of
from tongshi.gateways.media.nodes.remote.wire import MAX_ANSWER_BYTES, PREFIX, VERSION, Refusal

log = structlog.get_logger(__name__)

ANSWER_LIMIT_S = 3.0  # from the first byte asked to the last answered
MAX_CONNECTIONS = 32
NO_CONTROL = f"该地址没有第 {VERSION} 版的媒体节点控制接口：api 填写有误，或节点的版本与平台不同"
_HINTS = {40102: "，请核对两端的 secret、平台编码和节点名称"}  # by the node's code

_T = TypeVar("_T")


@dataclass(slots=True)
class _Line:
    """Connections made while one file of certificates was believed; closed when its last call has ended."""

    http: httpx2.AsyncClient
    calls: int = 0
    is_over: bool = False

    async def close_if_unused(self) -> None:
        if self.is_over and not self.calls:
            await self.http.aclose()


class Client:
    """Closed by ``close``.

    Args:
        api: where the node is commanded, such as ``http://192.0.2.30:8083``.
        owner: names this process of the platform; a node ends what another one opened.
        ca: file of the certificates that are believed, for ``https``; "" is what the system believes. When it
            is renewed, calls from then on believe the new one only; ``trouble`` says why it cannot be used.

    Raises:
        InvalidRequest: the file cannot be used.
    """

    def __init__(self, api: str, signer: Signer, owner: str, clock: Clock, ca: str = "") -> None:
        self._api = api.rstrip("/")
        self._signer = signer
        self._owner = owner
        self._ca = ca
        self._believed = WatchedFiles((ca,), clock) if ca else None
        self._line = _opened(ca)
        self.trouble = ""

    async def call(
        self, verb: str, said: msgspec.Struct, answer: type[_T], limit_s: float | None = None
    ) -> _T:
        """Call the node and read its answer, within ``ANSWER_LIMIT_S`` unless told otherwise.

        Raises:
            NotFound: no such stream (40404). Conflict: it is in another life or another's (40901).
            Unavailable: it has no room (50302). PeerTimeout: no answer in time.
            PeerFailed: refused otherwise, unreachable, or not readable.
        """
        status, data = await self._fetch(verb, msgspec.json.encode(said), limit_s or ANSWER_LIMIT_S)
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
        await self._line.http.aclose()

    async def _fetch(self, verb: str, body: bytes, limit_s: float) -> tuple[int, bytes]:
        path, data = PREFIX + verb, b""
        headers = self._signer.headers("POST", path, "", body, self._owner)
        headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(limit_s),  # the client's own limit is of each wait, not of the whole
                self._connections() as http,
                http.stream(
                    "POST", self._api + path, content=body, headers=headers, timeout=limit_s
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise PeerFailed("媒体节点应答过大")
                return response.status_code, data
        except (httpx2.TimeoutException, TimeoutError) as error:
            raise PeerTimeout("媒体节点未在规定时间内应答") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PeerFailed(f"无法连接媒体节点：{words_of(error)}") from error

    @asynccontextmanager
    async def _connections(self) -> AsyncIterator[httpx2.AsyncClient]:
        await self._renew()
        line = self._line
        line.calls += 1
        try:
            yield line.http
        finally:
            line.calls -= 1
            await line.close_if_unused()

    async def _renew(self) -> None:
        """Believe what the file says now; one that cannot be used leaves the last good one in force."""
        if self._believed is None or not self._believed.have_changed():
            return
        try:
            made = _opened(self._ca)
        except InvalidRequest as error:
            self.trouble = f"{error.message}，仍按原有文件校验"
            log.error("media_node_ca_refused", ca=self._ca, reason=error.message)
            return
        log.info("media_node_ca_renewed", ca=self._ca)
        before, self._line, self.trouble = self._line, made, ""
        before.is_over = True
        await before.close_if_unused()


def _opened(ca: str) -> _Line:
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS)
    return _Line(
        httpx2.AsyncClient(
            timeout=ANSWER_LIMIT_S,
            trust_env=False,
            follow_redirects=False,
            limits=limits,
            verify=trusting(ca),
        )
    )


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
