"""The one directory: what the operation table and the streams are, joined with what administrators say.

Implements: DB31DSJ/Z 001-2024 6.1
The table is the truth about our own services: nothing in it can be missing from the directory, and nothing
else of ours can be in it. An administrator adds contact and way of application, registers others' services,
and withdraws or publishes. A withdrawn service is no longer listed; who may *call* an operation is decided by
permissions alone (6.4), so that a directory never opens or closes a door.

What a caller may know: every published service with the permission it needs, so that one can apply for it;
administration only if the permission is held; the address of an external service only with its permission.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi import __version__
from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, NotFound
from tongshi.resources.services.model import (
    EXTERNAL_PREFIX,
    Listing,
    Narrowing,
    Service,
    ServiceKind,
    ServiceState,
)
from tongshi.sharing.model import Context, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.web.operations import AnyOperation, Open

HOW_TO_APPLY = (
    "向本平台管理员提出书面申请，写明用途、设备范围和期限；批准后取得密钥，按 docs/integrators.md 签名调用"
)
_INTERNAL = frozenset(
    {
        Permission.PLATFORM_ADMIN,
        Permission.USER_ADMIN,
        Permission.GRANT_ADMIN,
        Permission.AUDIT_READ,
        Permission.EXPLAIN,
    }
)
_SERVED = ("/api/", "/exchange/")


class ListingStore(Protocol):
    """The rows this service works on; ``store`` is one."""

    def put(self, conn: Connection, listing: Listing, at: datetime, /) -> None: ...

    def get(self, conn: Connection, code: str, /) -> Listing | None: ...

    def list_all(self, conn: Connection, /) -> list[Listing]: ...


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream service and the operation that opens it, whose state it shares."""

    code: str
    name: str
    operation: str
    summary: str


_STREAMS = (
    _Stream("stream-live-flv", "实时视频（HTTP-FLV）", "liveUrl", "先取地址，再播放；H.264、H.265"),
    _Stream("stream-live-fmp4", "实时视频（HTTP-fMP4）", "liveUrl", "先取地址，再播放；浏览器可直接解码"),
    _Stream("stream-live-gb28181", "实时视频级联（PS/RTP）", "liveUrl", "按 GB/T 28181-2022 9.2 点播"),
    _Stream("stream-playback", "历史视频", "playbackUrl", "先取地址，再播放"),
)


class ServiceDirectory:
    """Lists services for a caller, and keeps what administrators say of them.

    Args:
        table: gives the whole operation table, which is complete only after this was built.
        trouble: why an operation is degraded, or "".
    """

    def __init__(
        self,
        db: Database,
        store: ListingStore,
        owner: str,
        table: Callable[[], Sequence[AnyOperation]],
        trouble: Callable[[str], str] = lambda operation: "",
    ) -> None:
        self._db = db
        self._store = store
        self._owner = owner
        self._table = table
        self._trouble = trouble

    async def list_for(self, subject: Subject, narrowing: Narrowing) -> list[Service]:
        """What this caller may know, in order of kind and code."""
        listings = await self._db.read(self._store.list_all)
        known = self._known_to(subject, {listing.code: listing for listing in listings})
        return [service for service in known if _fits(service, narrowing)]

    async def get_for(self, subject: Subject, code: str) -> Service:
        """One service. Raises NotFound for an unknown one and for one that is not this caller's to know."""
        listing = await self._db.read(self._store.get, code)
        listings = {} if listing is None else {code: listing}
        for service in self._known_to(subject, listings):
            if service.code == code:
                return service
        raise NotFound("服务不存在", code=40404)

    async def register(self, by: Subject, listing: Listing, context: Context) -> None:
        """Register an external service, or say contact and way of application of one of ours."""
        if listing.code in self._own_codes():
            named = replace(listing, how_to_apply="", contact="")
            if named != Listing(listing.code):
                raise InvalidRequest("本平台服务的名称、契约和权限来自接口表，只能填写 howToApply 和 contact")
        elif not listing.code.startswith(EXTERNAL_PREFIX):
            raise InvalidRequest(f"外部服务的编号须以 {EXTERNAL_PREFIX} 开头", field="serviceId")
        elif not (listing.name and listing.owner and listing.address):
            raise InvalidRequest("外部服务须有 name、owner 和 address", field="name")
        await self._db.write(self._put, by, listing, context)

    async def withdraw(self, by: Subject, code: str, reason: str, context: Context) -> None:
        """Take a service out of the directory. Raises NotFound, or Conflict when it is out already."""
        await self._db.write(self._turn, by, code, True, reason, context)

    async def publish(self, by: Subject, code: str, reason: str, context: Context) -> None:
        """Put a withdrawn service back. Raises NotFound, or Conflict when it is listed."""
        await self._db.write(self._turn, by, code, False, reason, context)

    def _known_to(self, subject: Subject, listings: dict[str, Listing]) -> Iterator[Service]:
        is_administrator = subject.may(Permission.PLATFORM_ADMIN)
        for service in self._all(subject, listings):
            is_hidden = service.permission in _INTERNAL and not service.is_granted
            if is_administrator or not (is_hidden or service.state is ServiceState.WITHDRAWN):
                yield service

    def _all(self, subject: Subject, listings: dict[str, Listing]) -> Iterator[Service]:
        operations = {o.name: o for o in self._table() if o.path.startswith(_SERVED)}
        for name, operation in sorted(operations.items()):
            yield self._operation(subject, operation, listings.get(name, Listing(name)))
        for stream in _STREAMS:
            if stream.operation in operations:
                told = listings.get(stream.code, Listing(stream.code))
                opened_by = self._operation(subject, operations[stream.operation], told)
                yield replace(
                    opened_by,
                    code=stream.code,
                    kind=ServiceKind.STREAM,
                    name=stream.name,
                    summary=stream.summary,
                    row="",
                )
        for code, listing in sorted(listings.items()):
            if code.startswith(EXTERNAL_PREFIX):
                yield _external(subject, listing)

    def _operation(self, subject: Subject, operation: AnyOperation, told: Listing) -> Service:
        permission = operation.permission
        is_granted = isinstance(permission, Open) or (
            isinstance(permission, Permission) and subject.may(permission)
        )
        trouble = self._trouble(operation.name) if operation.is_implemented else "尚未建设，调用返回 501"
        state = ServiceState.DEGRADED if trouble else ServiceState.RUNNING
        if not operation.is_implemented:
            state = ServiceState.NOT_BUILT
        if told.is_withdrawn:
            state, trouble = ServiceState.WITHDRAWN, told.reason
        return Service(
            code=operation.name,
            kind=ServiceKind.OPERATION,
            name=operation.summary,
            summary="",
            owner=self._owner,
            version=__version__,
            contract=_pointer(operation),
            address=operation.path,
            permission=permission.value,
            is_granted=is_granted,
            state=state,
            reason=trouble,
            how_to_apply=told.how_to_apply or ("" if isinstance(permission, Open) else HOW_TO_APPLY),
            contact=told.contact,
            method=operation.method,
            row=operation.row or "",
            updated_at=told.updated_at,
        )

    def _own_codes(self) -> set[str]:
        names = {o.name for o in self._table() if o.path.startswith(_SERVED)}
        return names | {stream.code for stream in _STREAMS if stream.operation in names}

    def _put(self, conn: Connection, by: Subject, listing: Listing, context: Context) -> None:
        held = self._store.get(conn, listing.code) or Listing(listing.code)
        new = replace(listing, is_withdrawn=held.is_withdrawn, reason=held.reason, updated_by=by.name)
        self._store.put(conn, new, context.at)
        _audit(conn, by, listing.code, {"did": "register"}, context)

    def _turn(
        self, conn: Connection, by: Subject, code: str, is_withdrawn: bool, reason: str, context: Context
    ) -> None:
        held = self._store.get(conn, code)
        if held is None:
            if code not in self._own_codes():
                raise NotFound("服务不存在", code=40404)
            held = Listing(code)
        if held.is_withdrawn is is_withdrawn:
            raise Conflict("该服务已停止发布" if is_withdrawn else "该服务已在发布中")
        new = replace(held, is_withdrawn=is_withdrawn, reason=reason, updated_by=by.name)
        self._store.put(conn, new, context.at)
        did = "withdraw" if is_withdrawn else "publish"
        _audit(conn, by, code, {"did": did, "reason": reason}, context)


def _external(subject: Subject, listing: Listing) -> Service:
    is_granted = not listing.permission or subject.may(Permission(listing.permission))
    may_know = is_granted or subject.may(Permission.PLATFORM_ADMIN)
    return Service(
        code=listing.code,
        kind=ServiceKind.EXTERNAL,
        name=listing.name,
        summary=listing.summary,
        owner=listing.owner,
        version=listing.version,
        contract=listing.contract,
        address=listing.address if may_know else "",
        permission=listing.permission,
        is_granted=is_granted,
        state=ServiceState.WITHDRAWN if listing.is_withdrawn else ServiceState.RUNNING,
        reason=listing.reason,
        how_to_apply=listing.how_to_apply or HOW_TO_APPLY,
        contact=listing.contact,
        updated_at=listing.updated_at,
    )


def _pointer(operation: AnyOperation) -> str:
    """RFC 6901 into the document that this platform serves."""
    path = operation.path.replace("~", "~0").replace("/", "~1")
    return f"/openapi.json#/paths/{path}/{operation.method.lower()}"


def _fits(service: Service, narrowing: Narrowing) -> bool:
    texts: Iterable[str] = (service.code, service.name, service.summary, service.owner, service.row)
    return (
        (narrowing.kind is None or service.kind is narrowing.kind)
        and (narrowing.state is None or service.state is narrowing.state)
        and (narrowing.is_granted is None or service.is_granted is narrowing.is_granted)
        and any(narrowing.keyword.lower() in text.lower() for text in texts)
    )


def _audit(conn: Connection, by: Subject, code: str, details: dict[str, object], context: Context) -> None:
    audit.append(conn, deed(by, context, AuditTag.SERVICE_CHANGE, "service", code, details))
