"""The service directory over REST.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest
from tongshi.resources.services.model import Listing, Narrowing, Service, ServiceKind, ServiceState
from tongshi.resources.services.service import ServiceDirectory
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Open, Operation, Page, Quota, Request

_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps", "sip", "sips"})
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,63}\Z")
_Line = Annotated[str, Meta(max_length=128)]
_Text = Annotated[str, Meta(max_length=512)]


class ServiceQuery(Request, frozen=True):
    """Which services; ``granted`` narrows to those that the caller may call, or may not."""

    page_no: Annotated[int, Meta(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    keyword: Annotated[str, Meta(max_length=64)] = ""
    kind: ServiceKind | None = None
    state: ServiceState | None = None
    granted: bool | None = None


class ServiceEntry(Answer, frozen=True):
    """One service. ``contract`` points into the OpenAPI document, or to an external description."""

    service_id: str
    kind: ServiceKind
    name: str
    summary: str
    owner: str
    version: str
    contract: str
    method: str
    address: str
    row: str
    permission: str
    granted: bool
    state: ServiceState
    reason: str
    how_to_apply: str
    contact: str
    updated_at: datetime | None


class PutService(Request, frozen=True):
    """An external service; for one of ours ``howToApply`` and ``contact`` only."""

    name: _Line = ""
    summary: _Text = ""
    owner: _Line = ""
    version: Annotated[str, Meta(max_length=32)] = ""
    contract: _Text = ""
    address: _Text = ""
    permission: Permission | None = None
    how_to_apply: _Text = ""
    contact: _Line = ""


class Because(Request, frozen=True):
    """Why; it is shown and audited."""

    reason: Annotated[str, Meta(min_length=1, max_length=256)]


def operations(directory: ServiceDirectory) -> list[AnyOperation]:
    """The operations of the directory."""

    async def list_all(call: Call[Nothing, ServiceQuery]) -> Page[ServiceEntry]:
        query = call.query
        narrowing = Narrowing(query.keyword, query.kind, query.state, query.granted)
        found = await directory.list_for(subject_of(call), narrowing)
        start = (query.page_no - 1) * query.page_size
        rows = [_entry(service) for service in found[start : start + query.page_size]]
        return Page(rows, len(found), query.page_no, query.page_size)

    async def get(call: Call[Nothing, Nothing]) -> ServiceEntry:
        return _entry(await directory.get_for(subject_of(call), call.path["serviceId"][:64]))

    async def put(call: Call[PutService, Nothing]) -> ServiceEntry:
        body = call.body
        listing = Listing(
            _code(call),
            body.name,
            body.summary,
            body.owner,
            body.version,
            _url(body.contract, "contract"),
            _url(body.address, "address"),
            body.permission.value if body.permission else "",
            body.how_to_apply,
            body.contact,
        )
        await directory.register(subject_of(call), listing, context_of(call))
        return await _after(call)

    async def withdraw(call: Call[Because, Nothing]) -> ServiceEntry:
        await directory.withdraw(subject_of(call), _code(call), call.body.reason, context_of(call))
        return await _after(call)

    async def publish(call: Call[Because, Nothing]) -> ServiceEntry:
        await directory.publish(subject_of(call), _code(call), call.body.reason, context_of(call))
        return await _after(call)

    async def _after(call: Call[Any, Any]) -> ServiceEntry:
        return _entry(await directory.get_for(subject_of(call), _code(call)))

    one = "/api/v1/services/{serviceId}"
    return [
        _read("listServices", "/api/v1/services", "服务目录", ServiceQuery, Page[ServiceEntry], list_all),
        _read("getService", one, "查询一项服务", Nothing, ServiceEntry, get),
        _change("putService", "PUT", one, "登记外部服务或填写申请方式", PutService, put),
        _change("withdrawService", "POST", f"{one}/withdraw", "停止发布服务", Because, withdraw),
        _change("publishService", "POST", f"{one}/publish", "恢复发布服务", Because, publish),
    ]


def _read(
    name: str, path: str, summary: str, query: type[Any], response: type[Any], handler: Any
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        permission=Open.SIGNED_IN,
        quota=Quota.QUERY,
        audit=AuditTag.SERVICE_QUERY,
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
        permission=Permission.PLATFORM_ADMIN,
        quota=Quota.ADMIN,
        audit=AuditTag.SERVICE_CHANGE,
        body=body,
        query=Nothing,
        response=ServiceEntry,
        handler=handler,
        refusals=(Conflict,),
        is_audited_within=True,
    )


def _entry(service: Service) -> ServiceEntry:
    return ServiceEntry(
        service_id=service.code,
        kind=service.kind,
        name=service.name,
        summary=service.summary,
        owner=service.owner,
        version=service.version,
        contract=service.contract,
        method=service.method,
        address=service.address,
        row=service.row,
        permission=service.permission,
        granted=service.is_granted,
        state=service.state,
        reason=service.reason,
        how_to_apply=service.how_to_apply,
        contact=service.contact,
        updated_at=service.updated_at,
    )


def _code(call: Call[Any, Any]) -> str:
    code = call.path["serviceId"]
    if not _CODE.match(code):
        raise InvalidRequest("服务编号为字母开头的 64 位以内字母、数字、. 或 -", field="serviceId")
    return code


def _url(text: str, field: str) -> str:
    """An address that a reader may follow: a known scheme, and no password in it."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        is_fit = parts.scheme in _SCHEMES and bool(parts.netloc or parts.path) and "@" not in parts.netloc
    except ValueError:
        is_fit = False
    if not is_fit or not text.isprintable() or " " in text:
        raise InvalidRequest(f"{field} 应为不含口令的 http、https、rtsp 或 sip 地址", field=field)
    return text
