"""How the catalogues of registered peers stand, over REST, and asking for one again. An extension.

Implements: GB/T 28181-2022 Annex M
A peer is shown to whom its own archive is shown; a lower platform to whom platforms are. What is not known
and what is not permitted look the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.registrations.model import CatalogueStanding, CatalogueState
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

AT_ONCE = 5_000  # peers whose archive is looked at in one query

REASONS = {
    "": "",
    "missing": "收到的目录项少于对端声明的总数",
    "notAnnounced": "对端没有给出目录项总数",
    "moreThanAnnounced": "收到的目录项多于对端声明的总数",
    "brokenItems": "部分目录项无法解析",
    "tooMany": "目录项超过上限",
    "tooLong": "接收目录超时",
    "peerLost": "接收过程中对端离线",
    "refused": "对端拒绝目录查询",
    "silent": "对端未应答目录查询",
    "notStored": "目录未能写入",
}

Devices = Callable[[Sequence[str], Scope], Awaitable[Mapping[str, DeviceArchive]]]
PlatformIds = Callable[[], Awaitable[Mapping[str, str]]]


class Standings(Protocol):
    """What signalling knows."""

    def of(self, peer_id: str) -> CatalogueStanding | None:
        """One peer's."""
        ...

    def all(self) -> Sequence[CatalogueStanding]:
        """Every peer's, the last changed first."""
        ...


class Refresh(Protocol):
    """Asking again."""

    def refresh_catalogue(self, peer_id: str) -> bool:
        """Ask a registered peer for its catalogue; False when it is not registered."""
        ...


class CatalogueRow(Answer, frozen=True):
    """One peer. ``announced`` is null when it gave no number; ``doubled`` codes another device tells, too."""

    peer_id: str
    state: CatalogueState
    complete: bool
    announced: int | None
    received: int
    broken: int
    reason: str
    reason_text: str
    asked: int
    doubled: int
    began_at: datetime
    changed_at: datetime


class CatalogueQuery(Request, frozen=True):
    """One page of peers, of one state or of all."""

    state: CatalogueState | None = None
    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=200)] = 50


class Asked(Answer, frozen=True):
    """The question is on its way; how it stands is read again."""

    asked: bool = True


def operations(
    standings: Standings, refresh: Refresh, devices: Devices, platforms: PlatformIds, access: Access
) -> list[AnyOperation]:
    """The operations on catalogues of peers."""

    async def visible(call: Call[Any, Any], rows: Sequence[CatalogueStanding]) -> list[CatalogueStanding]:
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        known = await platforms()
        if scope.is_everything:
            return list(rows)
        seen = set(known)
        for start in range(0, len(rows), AT_ONCE):
            seen.update(await devices([row.peer_id for row in rows[start : start + AT_ONCE]], scope))
        return [row for row in rows if row.peer_id in seen]

    async def one(call: Call[Nothing, Nothing]) -> CatalogueStanding:
        standing = standings.of(call.path["peerId"])
        found = await visible(call, [] if standing is None else [standing])
        if not found:
            raise NotFound("没有该对端的目录接收记录", code=40401)
        return found[0]

    async def get(call: Call[Nothing, Nothing]) -> CatalogueRow:
        return _row(await one(call))

    async def list_all(call: Call[Nothing, CatalogueQuery]) -> Page[CatalogueRow]:
        query = call.query
        rows = [row for row in standings.all() if query.state in (None, row.state)]
        rows = await visible(call, rows)
        start = (query.page_no - 1) * query.page_size
        page = [_row(row) for row in rows[start : start + query.page_size]]
        return Page(page, len(rows), query.page_no, query.page_size)

    async def ask(call: Call[Nothing, Nothing]) -> Asked:
        standing = await one(call)
        if not refresh.refresh_catalogue(standing.peer_id):
            raise NotFound("对端未注册", code=40401)
        return Asked()

    return [
        Operation(
            name="listPeerCatalogues",
            method="GET",
            path="/api/v1/signalling/catalogues",
            summary="各对端目录接收情况",
            permission=Permission.PLATFORM_READ,
            quota=Quota.QUERY,
            audit=AuditTag.PLATFORM_QUERY,
            body=Nothing,
            query=CatalogueQuery,
            response=Page[CatalogueRow],
            handler=list_all,
        ),
        Operation(
            name="getPeerCatalogue",
            method="GET",
            path="/api/v1/signalling/catalogues/{peerId}",
            summary="一个对端的目录接收情况",
            permission=Permission.PLATFORM_READ,
            quota=Quota.QUERY,
            audit=AuditTag.PLATFORM_QUERY,
            body=Nothing,
            query=Nothing,
            response=CatalogueRow,
            handler=get,
        ),
        Operation(
            name="refreshPeerCatalogue",
            method="POST",
            path="/api/v1/signalling/catalogues/{peerId}/refresh",
            summary="重新查询一个对端的目录",
            permission=Permission.PLATFORM_ADMIN,
            quota=Quota.QUERY,
            audit=AuditTag.PLATFORM_CHANGE,
            body=Nothing,
            query=Nothing,
            response=Asked,
            handler=ask,
        ),
    ]


def _row(standing: CatalogueStanding) -> CatalogueRow:
    return CatalogueRow(
        peer_id=standing.peer_id,
        state=standing.state,
        complete=standing.state is CatalogueState.COMPLETE,
        announced=standing.announced if standing.announced >= 0 else None,
        received=standing.received,
        broken=standing.broken,
        reason=standing.reason,
        reason_text=REASONS.get(standing.reason, standing.reason),
        asked=standing.asked,
        doubled=standing.doubled,
        began_at=standing.began_at,
        changed_at=standing.at,
    )
