"""The envelope of every JSON answer: {code, msg, data, requestId, serverTime}; its status is truthful."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from tongshi.clock import BEIJING
from tongshi.errors import TongshiError

NO_STORE = "no-store"
_JSON = "application/json"


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """What travels. ``data`` is the operation's answer, or facts about the refusal."""

    code: int
    msg: str
    data: Any
    request_id: str
    server_time: str


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The ``data`` of a refusal: the field at fault, seconds to wait, facts such as ``holder``."""

    field: str | None = None
    retry_after_s: float | None = None
    details: dict[str, Any] = {}


def success(
    data: object,
    *,
    request_id: str,
    at: datetime,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Render an answer."""
    body = encode(0, "成功", data, request_id=request_id, at=at)
    return _response(body, status, request_id, headers or {})


def failure(
    error: TongshiError, *, request_id: str, at: datetime, headers: Mapping[str, str] | None = None
) -> Response:
    """Render an error with its own status; nothing of the cause beyond what the error says leaves."""
    trouble = Trouble(field=error.field, retry_after_s=error.retry_after_s, details=error.details)
    body = encode(error.code, error.message, trouble, request_id=request_id, at=at)
    extra = dict(headers or {})
    if error.retry_after_s is not None:
        extra["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return _response(body, error.http_status, request_id, extra)


def encode(code: int, msg: str, data: object, *, request_id: str, at: datetime) -> bytes:
    """The bytes of one envelope; ``serverTime`` is RFC 3339 with the offset of Shanghai."""
    server_time = at.astimezone(BEIJING).isoformat(timespec="milliseconds")
    return msgspec.json.encode(Envelope(code, msg, data, request_id, server_time))


def _response(body: bytes, status: int, request_id: str, headers: Mapping[str, str]) -> Response:
    fixed = {"Cache-Control": NO_STORE, "X-Request-Id": request_id}
    return Response(body, status_code=status, headers={**fixed, **headers}, media_type=_JSON)
