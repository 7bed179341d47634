"""This platform and its neighbours, as the console shows them.

Implements: DB31DSJ/Z 001-2024 6.2
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from tongshi import __version__
from tongshi.audit.tags import AuditTag
from tongshi.resources.platforms.model import KnownPlatform, Relation, Standing
from tongshi.resources.platforms.service import Platforms
from tongshi.sharing.permissions import Permission
from tongshi.sharing.refusals import Refusals
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Open, Operation, Quota, Unrecorded


class Exchanges(Protocol):
    """What this list needs of the exchange."""

    async def standings(self) -> Mapping[str, Standing]:
        """Standing by platform id, this platform's own among them."""
        ...


class Info(Answer, frozen=True):
    """Who answers."""

    platform_id: str
    name: str
    version: str


class Neighbour(Answer, frozen=True):
    """One platform. ``relation`` is seen from here; ``waiting`` devices wait for a person's word."""

    platform_id: str
    name: str
    relation: Relation
    online: bool | None
    device_count: int
    last_exchange_at: datetime | None
    lag: int | None
    equal: bool | None
    state: str
    waiting: int
    last_error: str | None
    paused: bool


class Neighbours(Answer, frozen=True):
    """Every platform we know."""

    rows: list[Neighbour] = msgspec.field(name="list")


def operations(
    platforms: Platforms,
    exchanges: Exchanges,
    *,
    platform_id: str,
    platform_name: str,
    refusals: Refusals | None = None,
) -> list[AnyOperation]:
    """The operations of platforms."""
    refused = refusals or Refusals()

    async def info(call: Call[Nothing, Nothing]) -> Info:
        return Info(platform_id, platform_name, __version__)

    async def list_all(call: Call[Nothing, Nothing]) -> Neighbours:
        standings = await exchanges.standings()
        known = await platforms.list_all()
        rows = [
            _neighbour(k, standings.get(k.platform.id, Standing()), refused.of(k.platform.id)) for k in known
        ]
        return Neighbours(rows)

    return [
        Operation(
            name="info",
            method="GET",
            path="/api/v1/info",
            summary="平台信息",
            permission=Open.PUBLIC,
            quota=Quota.QUERY,
            audit=Unrecorded.NOTHING,
            body=Nothing,
            query=Nothing,
            response=Info,
            handler=info,
        ),
        Operation(
            name="listPlatforms",
            method="GET",
            path="/api/v1/platforms",
            summary="平台列表与交换状态",
            permission=Permission.PLATFORM_READ,
            quota=Quota.QUERY,
            audit=AuditTag.PLATFORM_QUERY,
            body=Nothing,
            query=Nothing,
            response=Neighbours,
            handler=list_all,
        ),
    ]


def _neighbour(known: KnownPlatform, standing: Standing, refusal: str) -> Neighbour:
    is_self = known.platform.relation is Relation.SELF
    return Neighbour(
        platform_id=known.platform.id,
        name=known.platform.name,
        relation=known.platform.relation,
        online=True if is_self else known.state.is_online,
        device_count=standing.device_count,
        last_exchange_at=standing.last_exchange_at,
        lag=standing.lag,
        equal=standing.is_equal,
        state=standing.state,
        waiting=standing.waiting,
        last_error=standing.last_error or refusal or known.state.last_error or None,
        paused=standing.is_paused,
    )
