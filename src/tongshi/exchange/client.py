"""Calls to a neighbour: signed, compressed, bounded; its refusals become our errors."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from tongshi.errors import (
    Conflict,
    Gone,
    LimitExceeded,
    NotFound,
    PeerFailed,
    PeerTimeout,
    TongshiError,
)
from tongshi.exchange.signing import Signer

MAX_ANSWER_BYTES = 32 * 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
# A receiver may wait for its own writer before it answers a batch.
ANSWER_TIMEOUT_S = 60.0
_PACK_FROM_BYTES = 1024

_T = TypeVar("_T", bound=msgspec.Struct)


class _Trouble(msgspec.Struct, frozen=True, rename="camel"):
    field: str | None = None
    retry_after_s: float | None = None
    details: dict[str, Any] = {}  # msgspec copies an empty default


class _Head(msgspec.Struct, frozen=True):
    """The envelope before its data is known."""

    code: int
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Packed:
    """A structure that is ready to be sent: ``data`` as it goes on the wire, compressed or not."""

    body: msgspec.Struct
    data: bytes
    is_compressed: bool


class Link:
    """The REST way to one neighbour. Closed by ``close``."""

    def __init__(self, base_url: str, signer: Signer, http: httpx2.AsyncClient | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._prefix = urlsplit(self._base_url).path
        self._signer = signer
        timeout = httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        # Proxies of the environment are for people's tools, not for platforms.
        self._http = http or httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False)

    async def post(self, path: str, body: msgspec.Struct, answer: type[_T]) -> _T:
        """Post a structure and read the answer's data."""
        return await self.send(path, await self.pack(body), answer)

    async def pack(self, body: msgspec.Struct) -> Packed:
        """What ``send`` takes, so that the next page can be made ready while this one travels."""
        return await asyncio.to_thread(_pack, body)

    async def send(self, path: str, packed: Packed, answer: type[_T]) -> _T:
        """Post what was packed and read the answer's data."""
        return await self._call("POST", path, "", packed, answer)

    async def get(self, path: str, raw_query: str, answer: type[_T]) -> _T:
        """Get the answer's data."""
        return await self._call("GET", path, raw_query, None, answer)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, raw_query: str, packed: Packed | None, answer: type[_T]
    ) -> _T:
        headers = {"Accept": "application/json"}
        body = b""
        if packed is not None:
            body = packed.data
            headers["Content-Type"] = "application/json"
            if packed.is_compressed:
                headers["Content-Encoding"] = "gzip"
        headers.update(self._signer.headers(method, self._prefix + path, raw_query, body))
        url = self._base_url + path + (f"?{raw_query}" if raw_query else "")
        status, data = await self._exchange(method, url, headers, body)
        return _read(status, data, answer)

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._http.stream(method, url, headers=headers, content=body) as response:
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > MAX_ANSWER_BYTES:
                        raise PeerFailed("对端应答过大")
                    chunks.append(chunk)
                return response.status_code, b"".join(chunks)
        except httpx2.TimeoutException as error:
            raise PeerTimeout("对端未在规定时间内应答") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PeerFailed(f"无法连接对端：{type(error).__name__}") from error


def _pack(body: msgspec.Struct) -> Packed:
    data = msgspec.json.encode(body)
    if len(data) < _PACK_FROM_BYTES:
        return Packed(body, data, is_compressed=False)
    return Packed(body, gzip.compress(data, 1), is_compressed=True)


def _read(status: int, data: bytes, answer: type[_T]) -> _T:
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.code == 0 and status < 300:
            return msgspec.json.decode(head.data, type=answer)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise PeerFailed(f"对端应答无法解析（HTTP {status}）") from error
    raise _refusal(status, head)


def _refusal(status: int, head: _Head) -> TongshiError:
    """Our error for a peer's refusal; its status is told, never passed on as ours."""
    try:
        trouble = msgspec.json.decode(head.data, type=_Trouble | None) or _Trouble()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        trouble = _Trouble()
    details: dict[str, object] = dict(trouble.details)
    message = f"对端拒绝：{head.msg[:200]}（{head.code}）"
    kinds: dict[int, type[TongshiError]] = {404: NotFound, 409: Conflict, 410: Gone}
    if status in kinds:
        return kinds[status](message, details=details)
    if status in (429, 503):
        return LimitExceeded(message, retry_after_s=trouble.retry_after_s or 5.0)
    return PeerFailed(message, details={**details, "peerStatus": status, "peerCode": head.code})
