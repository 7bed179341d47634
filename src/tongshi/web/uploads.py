"""A body that is a file: received onto disk, hashed and unpacked as it comes, never whole in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import hmac
import secrets
import zlib
from pathlib import Path
from typing import IO

from starlette.requests import ClientDisconnect, Request

from tongshi.errors import InvalidRequest, PayloadTooLarge, Unauthenticated, Unavailable, UnsupportedMediaType
from tongshi.web.ports import BodyDigest

# A sender that is silent for so long, or has not ended after so long, holds a connection for nothing.
SILENCE_S = 30.0
MAX_TIME_S = 3_600.0
_FLUSH_BYTES = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def receive(request: Request, folder: Path, limit_bytes: int, promised: BodyDigest | None) -> Path:
    """Take the body into a new file in ``folder``, which the caller removes.

    Raises:
        PayloadTooLarge: more than ``limit_bytes``, before or after unpacking.
        Unauthenticated: 40102, the body is not the one that was signed.
        Unavailable: the disk is full.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise _too_large(limit_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMediaType("只接受 gzip 压缩", details={"supported": ["identity", "gzip"]})
    path = folder / f"{secrets.token_hex(12)}.upload"
    try:
        with path.open("xb") as file:
            sink = _Sink(file, limit_bytes, promised, is_packed=encoding == "gzip")
            await _take(request, sink)
            await asyncio.to_thread(sink.end)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise full_disk(error) from error
        raise
    return path


def digest_of(path: Path) -> bytes:
    """SHA-256 of a received file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def full_disk(error: OSError) -> Unavailable:
    """What a failed write means for a person."""
    if error.errno in _NO_SPACE:
        return Unavailable("服务器磁盘空间不足，文件未能保存；请联系管理员清理后重试", retry_after_s=60)
    return Unavailable("服务器无法写入文件，请联系管理员检查磁盘", retry_after_s=60)


async def _take(request: Request, sink: _Sink) -> None:
    waiting = bytearray()
    stream = request.stream().__aiter__()
    try:
        async with asyncio.timeout(MAX_TIME_S):
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        waiting += await anext(stream)
                    if len(waiting) >= _FLUSH_BYTES:
                        await asyncio.to_thread(sink.add, bytes(waiting))
                        waiting.clear()
    except TimeoutError as error:
        raise InvalidRequest("文件未在规定时间内传完") from error
    except ClientDisconnect as error:
        raise InvalidRequest("连接中断，文件不完整") from error
    await asyncio.to_thread(sink.add, bytes(waiting))


class _Sink:
    """Hashes what came, unpacks it, and writes what it is."""

    def __init__(
        self, file: IO[bytes], limit_bytes: int, promised: BodyDigest | None, *, is_packed: bool
    ) -> None:
        self._file = file
        self._limit = limit_bytes
        self._promised = promised
        self._hash = None if promised is None else hashlib.new(promised.algorithm)
        self._inflater = zlib.decompressobj(wbits=31) if is_packed else None
        self._came = self._written = 0

    def add(self, data: bytes) -> None:
        """The next bytes as they travel."""
        self._came += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if self._came > self._limit:
            raise _too_large(self._limit)
        if self._inflater is not None:
            try:
                data = self._inflater.decompress(data, self._limit - self._written + 1)
            except zlib.error as error:
                raise InvalidRequest("请求体不是完整的 gzip 数据") from error
        self._written += len(data)
        if self._written > self._limit:
            raise _too_large(self._limit)
        self._file.write(data)

    def end(self) -> None:
        """Compare with what was promised."""
        promised = b"" if self._promised is None else self._promised.value
        if self._hash is not None and not hmac.compare_digest(self._hash.digest(), promised):
            raise Unauthenticated("请求体与签名的摘要不符", code=40102)
        if self._inflater is not None and (not self._inflater.eof or self._inflater.unused_data):
            raise InvalidRequest("请求体不是完整的 gzip 数据")
        self._file.flush()


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"文件超过 {limit_bytes} 字节", details={"limitBytes": limit_bytes})
