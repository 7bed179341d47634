"""Peers of signalling over REST. An extension; no row of Annex E lists it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict
from tongshi.resources.peers.model import PeerProfile, PeerRow, Words
from tongshi.resources.peers.service import SignallingPeers
from tongshi.resources.peers.words import QUIRKS
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Scope
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

_Reason = Annotated[str, Meta(min_length=1, max_length=256)]
_Word = Annotated[str, Meta(max_length=16)]


class PeerQuery(Request, frozen=True):
    """Which peers; ``keyword`` is looked for in code, name, maker and User-Agent."""

    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=500)] = 50
    keyword: Annotated[str, Meta(max_length=64)] = ""
    online: bool | None = None


class PeerEntry(Answer, frozen=True):
    """One device or platform that registers with us. ``registeredAt`` is the last registration."""

    peer_id: str
    name: str
    platform: bool
    online: bool
    address: str
    transport: str
    registered_at: datetime | None
    expires_at: datetime | None
    last_seen_at: datetime | None
    edition: str
    user_agent: str
    manufacturer: str
    model: str
    quirks: int
    overridden: bool


class PeerHabit(Answer, frozen=True):
    """A quirk: ``does`` is what we do about it. Evidence is null for one that was never seen.

    ``inForce`` is null for habits that are forgiven without a setting; ``told`` is an administrator's word.
    """

    code: str
    number: int
    name: str
    does: str
    in_force: bool | None
    told: bool | None
    seen_at: datetime | None
    message: str
    detail: str
    trace_id: str
    count: int


class PeerWords(Answer, frozen=True):
    """An administrator's words; empty leaves it to what was detected."""

    edition: str
    charset: str
    media_transport: str
    quirks: dict[str, bool]


class PeerDetail(Answer, frozen=True):
    """All that is known of a peer, and what we go by (``edition``, ``charset``)."""

    peer: PeerEntry
    firmware: str
    said_edition: str
    detected_edition: str
    detected_charset: str
    edition: str
    charset: str
    habits: list[PeerHabit]
    told: PeerWords
    told_by: str
    told_reason: str
    told_at: datetime | None
    undoable: bool


class UpperEntry(Answer, frozen=True):
    """One platform that we register with."""

    platform_id: str
    address: str
    transport: str
    registered: bool
    since: datetime | None
    last_heard_at: datetime | None
    reason: str
    edition: str


class UpperList(Answer, frozen=True):
    """All of them."""

    rows: list[UpperEntry] = field(name="list")


class TellPeer(Request, frozen=True):
    """How to deal with a peer; what is left out is left to what was detected."""

    reason: _Reason
    edition: _Word = ""
    charset: _Word = ""
    media_transport: _Word = ""
    quirks: Annotated[dict[Annotated[str, Meta(max_length=32)], bool], Meta(max_length=64)] = field(
        default_factory=dict
    )


class Because(Request, frozen=True):
    """Why; it is shown and audited."""

    reason: _Reason


def operations(peers: SignallingPeers, access: Access) -> list[AnyOperation]:
    """The operations on peers."""

    async def list_peers(call: Call[Nothing, PeerQuery]) -> Page[PeerEntry]:
        query = call.query
        rows, total = await peers.page(
            await _scope(call), query.keyword, query.online, query.page_no, query.page_size
        )
        return Page([_entry(row, row.profile) for row in rows], total, query.page_no, query.page_size)

    async def get_peer(call: Call[Nothing, Nothing]) -> PeerDetail:
        return _detail(*await peers.get(await _scope(call), _id(call)))

    async def tell_peer(call: Call[TellPeer, Nothing]) -> PeerDetail:
        body, scope = call.body, await _scope(call)
        words = Words(body.edition, body.charset, body.media_transport, body.quirks)
        await peers.tell(subject_of(call), scope, _id(call), words, body.reason, context_of(call))
        return _detail(*await peers.get(scope, _id(call)))

    async def undo_peer(call: Call[Because, Nothing]) -> PeerDetail:
        scope = await _scope(call)
        await peers.undo(subject_of(call), scope, _id(call), call.body.reason, context_of(call))
        return _detail(*await peers.get(scope, _id(call)))

    async def list_uppers(call: Call[Nothing, Nothing]) -> UpperList:
        return UpperList(
            [
                UpperEntry(
                    row.platform_id,
                    f"{row.host}:{row.port}",
                    row.transport,
                    row.is_registered,
                    row.since,
                    row.last_heard_at,
                    row.reason,
                    row.edition,
                )
                for row in peers.uppers()
            ]
        )

    async def _scope(call: Call[Any, Any]) -> Scope:
        return await access.scope(subject_of(call), Permission.SIGNALLING_READ, context_of(call))

    every = "/api/v1/signalling/peers"
    one = f"{every}/{{peerId}}"
    return [
        _read("listPeers", every, "信令对端列表", PeerQuery, Page[PeerEntry], list_peers),
        _read("getPeer", one, "信令对端画像", Nothing, PeerDetail, get_peer),
        _read(
            "listUppers",
            "/api/v1/signalling/uppers",
            "向上级平台的注册状态",
            Nothing,
            UpperList,
            list_uppers,
            Permission.PLATFORM_READ,
        ),
        _change("tellPeer", "PUT", one, "设置信令对端的版本与习惯", TellPeer, tell_peer),
        _change("undoPeer", "POST", f"{one}/undo", "撤销对信令对端的设置", Because, undo_peer),
    ]


def _read(
    name: str,
    path: str,
    summary: str,
    query: type[Any],
    response: type[Any],
    handler: Any,
    permission: Permission = Permission.SIGNALLING_READ,
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        permission=permission,
        quota=Quota.QUERY,
        audit=AuditTag.SIGNALLING_QUERY,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
    )


def _change(name: str, method: str, path: str, summary: str, body: type[Any], handler: Any) -> AnyOperation:
    return Operation(
        name=name,
        method=method,
        path=path,
        summary=summary,
        permission=Permission.SIGNALLING_ADMIN,
        quota=Quota.ADMIN,
        audit=AuditTag.SIGNALLING_CHANGE,
        body=body,
        query=Nothing,
        response=PeerDetail,
        handler=handler,
        refusals=(Conflict,),
        is_audited_within=True,
    )


def _id(call: Call[Any, Any]) -> str:
    return call.path["peerId"][:64]


def _entry(row: PeerRow, profile: PeerProfile) -> PeerEntry:
    return PeerEntry(
        peer_id=profile.peer_id,
        name=row.name,
        platform=row.is_platform,
        online=row.is_online,
        address=f"{row.host}:{row.port}" if row.is_online else "",
        transport=profile.transport,
        registered_at=row.registered_at,
        expires_at=row.expires_at,
        last_seen_at=row.last_seen_at,
        edition=profile.effective().edition.wire,
        user_agent=profile.user_agent,
        manufacturer=profile.manufacturer,
        model=profile.model,
        quirks=len(profile.seen),
        overridden=profile.words != Words(),
    )


def _detail(row: PeerRow, profile: PeerProfile) -> PeerDetail:
    effective, words = profile.effective(), profile.words
    return PeerDetail(
        peer=_entry(row, profile),
        firmware=profile.firmware,
        said_edition=profile.said_edition,
        detected_edition=profile.edition,
        detected_charset=profile.charset,
        edition=effective.edition.wire,
        charset=effective.charset,
        habits=_habits(profile),
        told=PeerWords(words.edition, words.charset, words.media_transport, words.quirks),
        told_by=profile.set_by,
        told_reason=profile.set_reason,
        told_at=profile.set_at,
        undoable=profile.before is not None,
    )


def _habits(profile: PeerProfile) -> list[PeerHabit]:
    """Those seen first, then those that may be set."""
    in_force = {quirk.value for quirk in profile.effective().quirks}
    found = []
    for code, said in QUIRKS.items():
        seen = profile.seen.get(code)
        if seen is None and not said.acts:
            continue
        found.append(
            PeerHabit(
                code=code,
                number=said.number,
                name=said.name,
                does=said.does,
                in_force=code in in_force if said.acts else None,
                told=profile.words.quirks.get(code),
                seen_at=None if seen is None else seen.at,
                message="" if seen is None else seen.message,
                detail="" if seen is None else seen.detail,
                trace_id="" if seen is None else seen.trace_id,
                count=0 if seen is None else seen.count,
            )
        )
    return sorted(found, key=lambda one: (one.seen_at is None, one.number))
