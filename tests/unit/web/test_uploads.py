"""Files are received onto disk: bounded, hashed, unpacked as they come; what is refused leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from tongshi.errors import InvalidRequest, PayloadTooLarge, TongshiError, Unauthenticated, Unavailable
from tongshi.web import uploads
from tongshi.web.ports import BodyDigest


def request(*chunks: bytes, breaks: bool = False, **headers: str) -> Request:
    """A request whose body comes in chunks."""

    async def stream() -> AsyncIterator[dict[str, Any]]:
        for chunk in chunks:
            yield {"type": "http.request", "body": chunk, "more_body": True}
        if breaks:
            yield {"type": "http.disconnect"}
        yield {"type": "http.request", "body": b"", "more_body": False}

    events = stream()

    async def receive() -> dict[str, Any]:
        return await anext(events)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


def promise(data: bytes) -> BodyDigest:
    return BodyDigest("sm3", hashlib.new("sm3", data).digest())


async def test_what_came_is_what_is_kept(tmp_path: Path) -> None:
    parts = [bytes([n]) * 700_000 for n in range(5)]
    data = b"".join(parts)
    path = await uploads.receive(request(*parts), tmp_path, 1 << 24, promise(data))
    assert path.read_bytes() == data
    packed = gzip.compress(data)
    sent = request(packed[:100], packed[100:], content_encoding="gzip")
    path = await uploads.receive(sent, tmp_path, 1 << 24, promise(packed))
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (request(b"x" * 60, b"x" * 60), PayloadTooLarge),
        (request(content_length="101"), PayloadTooLarge),
        (request(gzip.compress(b"\0" * 10_000), content_encoding="gzip"), PayloadTooLarge),
        (request(gzip.compress(b"abc")[:-5], content_encoding="gzip"), InvalidRequest),
        (request(gzip.compress(b"abc") + b"x", content_encoding="gzip"), InvalidRequest),
        (request(b"no gzip", content_encoding="gzip"), InvalidRequest),
        (request(b"abc", content_encoding="br"), TongshiError),
        (request(b"abc", breaks=True), InvalidRequest),
    ],
)
async def test_what_is_refused_leaves_no_file(
    tmp_path: Path, sent: Request, error: type[TongshiError]
) -> None:
    with pytest.raises(error):
        await uploads.receive(sent, tmp_path, 100, None)
    assert not os.listdir(tmp_path)


async def test_a_body_that_was_not_signed_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await uploads.receive(request(b"another body"), tmp_path, 100, promise(b"the body that was signed"))
    assert refused.value.code == 40102
    assert not os.listdir(tmp_path)


async def test_a_silent_sender_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SILENCE_S", 0.02)
    sent = request(b"abc")

    async def silent() -> Any:
        await asyncio.sleep(10)

    sent._receive = silent
    with pytest.raises(InvalidRequest, match="规定时间"):
        await uploads.receive(sent, tmp_path, 100, None)
    assert not os.listdir(tmp_path)


async def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads._Sink, "add", full)
    with pytest.raises(Unavailable, match="磁盘空间不足") as refused:
        await uploads.receive(request(b"abc"), tmp_path, 100, None)
    assert refused.value.http_status == 503
    assert not os.listdir(tmp_path)
