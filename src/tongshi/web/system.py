"""Operations of the kit itself: health, the OpenAPI document, metrics."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from tongshi.errors import NotFound
from tongshi.web import openapi
from tongshi.web.operations import (
    Answer,
    AnyOperation,
    Call,
    Nothing,
    Open,
    Operation,
    Quota,
    Unrecorded,
)

_NoInput = Call[Nothing, Nothing]


class Health(Answer, frozen=True):
    """Alive, and able to answer."""

    status: str


def operations(
    others: Sequence[AnyOperation], *, metrics: Callable[[], tuple[bytes, str]] | None = None
) -> list[AnyOperation]:
    """The kit's own operations beside ``others``, whose document it serves.

    Args:
        metrics: renders the metrics and their media type; None serves none.
    """
    table: list[AnyOperation] = []

    async def health(call: _NoInput) -> Health:
        return Health("ok")

    @cache
    def document() -> bytes:
        return msgspec.json.encode(openapi.document([*others, *table]))

    async def describe(call: _NoInput) -> Response:
        # Made when first asked for, beside the loop: it takes longer than everything else at the start.
        return Response(await asyncio.to_thread(document), media_type="application/json")

    async def measure(call: _NoInput) -> Response:
        # Numbers of the installation are for its own machine's collector, not for the network.
        if metrics is None or not _is_loopback(call.client_host):
            raise NotFound("没有这个地址", code=40400)
        body, media_type = metrics()
        return Response(body, media_type=media_type)

    table = [
        _public("health", "/healthz", "存活检查", Health, health),
        _public("openapi", "/openapi.json", "接口说明", Nothing, describe, ("application/json",)),
        _public("metrics", "/metrics", "运行指标", Nothing, measure, ("text/plain",)),
    ]
    return table


def _public(
    name: str,
    path: str,
    summary: str,
    response: type[msgspec.Struct],
    handler: Any,
    media_types: tuple[str, ...] = (),
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        permission=Open.PUBLIC,
        quota=Quota.QUERY,
        audit=Unrecorded.NOTHING,
        body=Nothing,
        query=Nothing,
        response=response,
        handler=handler,
        is_raw=bool(media_types),
        media_types=media_types,
        refusals=(NotFound,) if name == "metrics" else (),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
