"""Plans over REST. The lists of devices by plan (rows E.1-9, E.4-5) stand in devices.plan_lists_http.

Implements: DB31DSJ/Z 001-2024 E.4-16
Implements: DB31DSJ/Z 001-2024 E.4-18
Implements: DB31DSJ/Z 001-2024 E.4-22
Implements: DB31DSJ/Z 001-2024 E.4-23
Implements: DB31DSJ/Z 001-2024 E.4-24
Implements: DB31DSJ/Z 001-2024 E.4-28

A plan or catalogue that the caller may not see looks unknown (40402).
"""

from __future__ import annotations

from typing import Any

import msgspec

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, NotFound, TongshiError, Unprocessable
from tongshi.resources.devices.asking import Tagging
from tongshi.resources.devices.search_terms import fold
from tongshi.resources.plans import wire
from tongshi.resources.plans.model import Catalogue, PlanFilter, Shown
from tongshi.resources.plans.service import Plans
from tongshi.resources.tags.wire import TagExpr
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Subject
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Page, Quota, Reply


def operations(plans: Plans, tags: Tagging) -> list[AnyOperation]:
    """The operations on plans and their catalogues."""

    async def save_catalog(call: Call[wire.CatalogBody, Nothing]) -> wire.PlanCatalog:
        asked = wire.catalogue_asked(call.body)
        return wire.catalogue(await plans.save_catalogue(subject_of(call), asked, context_of(call)))

    async def search_catalogs(call: Call[Nothing, wire.CatalogQuery]) -> wire.PlanCatalogs:
        found, counts = await plans.catalogues(subject_of(call), call.query.scope)
        return wire.PlanCatalogs(_trees(found, counts, call.query))

    async def save(call: Call[wire.PlanBody, Nothing]) -> wire.PlanSaved:
        return wire.saved(await plans.save(subject_of(call), wire.plan_asked(call.body), context_of(call)))

    async def get(call: Call[Nothing, Nothing]) -> Reply[wire.PlanAnswer]:
        shown = await plans.get(subject_of(call), call.path["planCode"], context_of(call))
        return Reply(_whole(shown, subject_of(call)), headers={"ETag": f'"{shown.plan.revision}"'})

    async def find(call: Call[Nothing, wire.PlanQuery]) -> Page[wire.PlanAnswer]:
        query = call.query
        if query.page_no * query.page_size > wire.MAX_PAGED_ROWS:
            raise InvalidRequest("翻页超过 10000 条，请缩小范围", code=40006, field="pageNo")
        bearing = None
        if query.tag_enum_code:
            bearing = await tags.narrowing(TagExpr(tag_enum_codes=[query.tag_enum_code]), "tagEnumCode")
        asked = PlanFilter(
            query.keyword, query.CatalogID, query.owner, query.device_id, query.status, bearing
        )
        rows, total = await plans.find(
            subject_of(call), asked, query.sort, query.page_no, query.page_size, context_of(call)
        )
        return Page([wire.plan_in_list(row) for row in rows], total, query.page_no, query.page_size)

    async def delete(call: Call[Nothing, wire.DeleteQuery]) -> wire.PlanDeleted:
        code = call.path["planCode"]
        return wire.PlanDeleted([code], await plans.delete(subject_of(call), code, context_of(call)))

    async def undo(call: Call[wire.UndoBody, Nothing]) -> wire.PlanAnswer:
        shown = await plans.undo(subject_of(call), call.body.undo_token, context_of(call))
        return _whole(shown, subject_of(call))

    return [
        _operation(
            "searchPlanCatalogs",
            "GET",
            "/catalogs",
            "预案目录检索",
            search_catalogs,
            wire.PlanCatalogs,
            row="E.4-18",
            refusals=(NotFound,),
            query=wire.CatalogQuery,
        ),
        _operation(
            "savePlanCatalog",
            "POST",
            "/catalogs",
            "预案目录新增或者更新",
            save_catalog,
            wire.PlanCatalog,
            row="E.4-16",
            refusals=(Conflict, Unprocessable),
            body=wire.CatalogBody,
        ),
        _operation(
            "findPlans",
            "GET",
            "",
            "查找预案",
            find,
            Page[wire.PlanAnswer],
            row="E.4-23",
            refusals=(NotFound,),
            query=wire.PlanQuery,
        ),
        _operation("getPlan", "GET", "/{planCode}", "获取预案信息", get, wire.PlanAnswer, row="E.4-24"),
        _operation(
            "savePlanConfig",
            "POST",
            "/config",
            "预案配置信息保存和修改",
            save,
            wire.PlanSaved,
            row="E.4-28",
            refusals=(Conflict, Unprocessable),
            body=wire.PlanBody,
        ),
        _operation(
            "deletePlan",
            "DELETE",
            "/{planCode}",
            "删除预案",
            delete,
            wire.PlanDeleted,
            row="E.4-22",
            query=wire.DeleteQuery,
        ),
        _operation(
            "undoPlanDeletion", "POST", "/undo", "撤销删除预案", undo, wire.PlanAnswer, body=wire.UndoBody
        ),
    ]


def _operation(
    name: str,
    method: str,
    path: str,
    summary: str,
    handler: Any,
    response: Any,
    *,
    row: str | None = None,
    body: Any = Nothing,
    query: Any = Nothing,
    refusals: tuple[type[TongshiError], ...] = (),
) -> AnyOperation:
    is_reading = method == "GET"
    return Operation(
        name=name,
        method=method,
        path=f"/api/v1/plans{path}",
        summary=summary,
        permission=Permission.PLAN_READ if is_reading else Permission.PLAN_WRITE,
        quota=Quota.QUERY,
        audit=AuditTag.PLAN_QUERY if is_reading else AuditTag.PLAN_CHANGE,
        body=body,
        query=query,
        response=response,
        handler=handler,
        row=row,
        is_audited_within=not is_reading,
        refusals=refusals,
    )


def _whole(shown: Shown, subject: Subject) -> wire.PlanAnswer:
    is_owner = shown.plan.owner == f"{subject.kind.value}:{subject.id}"
    may_edit = subject.may(Permission.PLAN_WRITE) and (is_owner or subject.may(Permission.PLATFORM_ADMIN))
    return msgspec.structs.replace(
        wire.plan_in_list(shown),
        DeviceIdList=list(shown.plan.device_ids),
        missing=list(shown.missing),
        denied_count=shown.denied,
        perms=["view", "edit"] if may_edit else ["view"],
    )


def _trees(
    found: list[Catalogue], counts: dict[str, int], query: wire.CatalogQuery
) -> list[wire.PlanCatalog]:
    """The catalogues as trees. Raises NotFound 40402 for a parent that the caller may not see."""
    known = {one.id: one for one in found}
    if query.parent_id and query.parent_id not in known:
        raise NotFound("预案目录不存在", code=40402, field="parentId")
    kept = _matching(known, fold(query.keyword))
    below: dict[str, list[str]] = {}
    for one in found:
        # What hangs below a catalogue that the caller may not see is shown below its place in the path.
        below.setdefault(one.parent_id if one.parent_id in known else "", []).append(one.id)

    def grown(key: str, depth: int) -> tuple[wire.PlanCatalog, int]:
        branches = [grown(child, depth - 1) for child in below.get(key, ())]
        total = counts.get(key, 0) + sum(count for _, count in branches)
        shown = [branch for branch, _ in branches if branch.CatalogID in kept] if depth > 1 else []
        node = msgspec.structs.replace(wire.catalogue(known[key]), children=shown)
        if query.with_counts:
            own = counts.get(key, 0)
            node = msgspec.structs.replace(node, PlanCount=own, plan_count_recursive=total)
        return node, total

    return [grown(key, query.depth)[0] for key in below.get(query.parent_id, ()) if key in kept]


def _matching(known: dict[str, Catalogue], keyword: str) -> set[str]:
    """Ids of what matches, and of what stands above it."""
    kept: set[str] = set()
    for one in known.values():
        if keyword in fold(one.name):
            key = one.id
            while key in known and key not in kept:
                kept.add(key)
                key = known[key].parent_id
    return kept
