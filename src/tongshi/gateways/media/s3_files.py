"""Own recordings in an S3 object store: put, read by range, deleted; a file is never in memory whole.

A segment is at most ``recorder.MAX_BYTES_OF_SEGMENT``, below the 5 GiB that one PUT may carry, so that no
upload in parts is needed: an object is there whole or not at all. Its SHA-256 is signed, so that a store
takes no bytes that were changed on the way. Credentials go into signatures and nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import structlog

from tongshi.clock import Clock
from tongshi.errors import NotFound, Unavailable
from tongshi.protocols.s3_signature import EMPTY_SHA256, Credentials, path_of, signed
from tongshi.resources.recordings.model import Segment

log = structlog.get_logger(__name__)

PIECE_BYTES = 1 << 20
TIMEOUT_S = 30.0  # without any byte moving
MAX_CONNECTIONS = 32


class S3Files:
    """Fulfils ``recordings.ports.RemoteFiles``.

    Args:
        endpoint: ``http(s)://host[:port]``; the bucket is part of the path.
    """

    def __init__(self, endpoint: str, bucket: str, credentials: Credentials, clock: Clock) -> None:
        self._endpoint, self._bucket = endpoint.rstrip("/"), bucket
        self._host = urlsplit(self._endpoint).netloc
        self._credentials, self._clock = credentials, clock
        self._http = httpx2.AsyncClient(
            timeout=TIMEOUT_S, limits=httpx2.Limits(max_connections=MAX_CONNECTIONS), trust_env=False
        )

    async def put(self, segment: Segment, written: Path) -> None:
        size, digest = await asyncio.to_thread(_measure, written)
        response = await self._send(
            "PUT",
            segment,
            body_sha256=digest,
            headers={"Content-Length": str(size), "Content-Type": "video/mp2p"},
            content=_pieces(written),
        )
        if response.status_code != 200:
            raise _refused("PUT", response)

    async def read(self, segment: Segment, offset: int, size: int) -> bytes:
        response = await self._send("GET", segment, headers={"Range": f"bytes={offset}-{offset + size - 1}"})
        if response.status_code == 416:
            return b""
        if response.status_code == 404:
            raise NotFound("录像文件已不存在", code=40405)
        if response.status_code != 206:
            raise _refused("GET", response)
        return response.content

    async def delete(self, segment: Segment) -> None:
        response = await self._send("DELETE", segment)
        if response.status_code not in (200, 204, 404):
            raise _refused("DELETE", response)

    async def close(self) -> None:
        await self._http.aclose()

    async def _send(
        self,
        method: str,
        segment: Segment,
        *,
        body_sha256: str = EMPTY_SHA256,
        headers: dict[str, str] | None = None,
        content: AsyncIterator[bytes] | None = None,
    ) -> httpx2.Response:
        path = path_of(self._bucket, segment.device_id, segment.id[:8], f"{segment.id}.ps")
        told = signed(
            self._credentials,
            method,
            self._host,
            path,
            self._clock.at(),
            body_sha256=body_sha256,
            headers=headers,
        )
        try:
            return await self._http.request(method, f"{self._endpoint}{path}", headers=told, content=content)
        except httpx2.HTTPError as error:
            raise Unavailable(f"对象存储无法访问：{type(error).__name__}", code=50302) from error


def _refused(method: str, response: httpx2.Response) -> Unavailable:
    """The store's own words stay in the log; they may name what a caller need not know."""
    log.warning("object_store_refused", method=method, status=response.status_code, said=response.text[:256])
    return Unavailable(f"对象存储拒绝了请求（{response.status_code}）", code=50302)


def _measure(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
    finally:
        await asyncio.to_thread(file.close)
