"""Tags over REST.

Implements: DB31DSJ/Z 001-2024 E.3-2
Implements: DB31DSJ/Z 001-2024 E.3-4
Implements: DB31DSJ/Z 001-2024 E.3-13
Implements: DB31DSJ/Z 001-2024 E.3-14
Implements: DB31DSJ/Z 001-2024 E.3-16
Implements: DB31DSJ/Z 001-2024 E.3-17

The dictionary is everybody's who may read tags; devices only within the caller's scope.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, NotFound, Unprocessable
from tongshi.resources.devices.asking import Asking
from tongshi.resources.devices.coordinates import GeoCoordSys
from tongshi.resources.devices.detail_wire import is_held
from tongshi.resources.devices.http import MAX_PAGED_ROWS
from tongshi.resources.devices.query import DeviceQueries
from tongshi.resources.devices.query_http import selected, skip_of
from tongshi.resources.devices.query_wire import FilterAsked, lite_of
from tongshi.resources.devices.search_terms import MAX_KEYWORD, Match
from tongshi.resources.devices.selection import Sort
from tongshi.resources.devices.wire import DeviceLite
from tongshi.resources.tags import wire
from tongshi.resources.tags.annotation import Annotations
from tongshi.resources.tags.expression import terms
from tongshi.resources.tags.expression_store import Bearing
from tongshi.resources.tags.model import MAX_DEVICES, MAX_SELECTED, Annotation, Mode, TagSource
from tongshi.resources.tags.service import TagDictionary
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Reply, Request

_DeviceId = Annotated[str, Meta(min_length=1, max_length=64)]
_Division = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8}|unassigned)\Z")]


class TaggedQuery(Request, frozen=True):
    """Devices whose tags a condition holds for; ``explain`` counts each term by itself."""

    expr: wire.TagExpr
    civil_codes: Annotated[list[_Division], Meta(max_length=100)] = field(default_factory=list)
    filter: FilterAsked = FilterAsked()
    explain: bool = False
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    sort: Sort = Sort.ID
    geo_coord_sys: GeoCoordSys = GeoCoordSys.WGS84


class TaggedDevice(DeviceLite, frozen=True, omit_defaults=True, kw_only=True):
    """A device with its tags."""

    tags: list[wire.DeviceTagShown]


class TermCount(Answer, frozen=True):
    """How many of the caller's devices, within the filter, one term holds for."""

    TagDefineCode: str
    tag_enum_codes: list[str]
    count: int


class TaggedPage(Page[TaggedDevice], frozen=True):
    """One page, and how many devices each term holds for when that was asked."""

    explain: list[TermCount]


class SelectionAsked(Request, frozen=True):
    """The devices of a search, which must be as many as the caller saw."""

    expected_count: Annotated[int, Meta(ge=0, le=MAX_SELECTED)]
    keyword: Annotated[str, Meta(max_length=MAX_KEYWORD)] = ""
    match: Match = Match.CONTAINS
    filter: FilterAsked = FilterAsked()


class AnnotateBody(Request, frozen=True):
    """Tags to be put on devices and taken off. ``ifVersion`` goes with one device."""

    device_ids: Annotated[list[_DeviceId], Meta(max_length=MAX_DEVICES)] = field(default_factory=list)
    selection: SelectionAsked | None = None
    set: Annotated[list[wire.SettingBody], Meta(max_length=50)] = field(default_factory=list)
    unset: Annotated[list[_DeviceId], Meta(max_length=50)] = field(default_factory=list)
    mode: Mode = Mode.REPLACE
    source: TagSource = TagSource.MANUAL
    dry_run: bool = False
    if_version: Annotated[int, Meta(ge=0, le=2**53)] | None = None


def operations(
    dictionary: TagDictionary, annotations: Annotations, queries: DeviceQueries, asking: Asking
) -> list[AnyOperation]:
    """The operations on the dictionary and on the tags of devices."""

    async def groups(call: Call[Nothing, wire.GroupQuery]) -> Reply[wire.TagGroups]:
        query = call.query
        found, counts = await dictionary.groups(wire.tag_sort(query.Tagsort), query.keyword)
        rows = [wire.group(one) for one in found]
        if query.with_counts:
            rows = [msgspec.structs.replace(row, define_count=counts[row.TagGroupCode]) for row in rows]
        answer = wire.TagGroups(rows)
        tag = f'"{blake2b(msgspec.json.encode(answer), digest_size=16).hexdigest()}"'
        is_fresh = is_held(call.headers.get("if-none-match", ""), tag)
        return Reply(answer, status=304 if is_fresh else 200, headers={"ETag": tag})

    async def defines(call: Call[Nothing, wire.DefineQuery]) -> Page[wire.TagDefine]:
        query = call.query
        found, counts = await dictionary.defines(query.TagGroupCode, wire.tag_sort(query.Tagsort))
        skip = (query.page_no - 1) * query.page_size
        rows = [wire.define(one, counts.get(one.code, 0)) for one in found[skip : skip + query.page_size]]
        return Page(rows, len(found), query.page_no, query.page_size)

    async def save_enums(call: Call[wire.EnumsBody, Nothing]) -> wire.EnumsSaved:
        done = await dictionary.save_values(subject_of(call), wire.values_asked(call.body), context_of(call))
        defined, _ = await dictionary.defines()
        group_of = {define.code: define.group_code for define in defined}
        return wire.EnumsSaved(
            [wire.value(one, group_of[one.define_code]) for one in done.saved],
            done.disabled,
            [wire.EnumConflict(one.text, one.code, one.number, one.reason) for one in done.conflicts],
            done.revision,
        )

    async def of_device(call: Call[Nothing, Nothing]) -> Reply[wire.DeviceTags]:
        device_id = call.path["deviceId"]
        found = await annotations.of_device(subject_of(call), device_id, context_of(call))
        named, _ = await dictionary.groups()
        _, counts = await dictionary.defines()
        answer = wire.device_tags(device_id, found, {group.code: group.name for group in named}, counts)
        return Reply(answer, headers={"ETag": f'"{found.revision}"'})

    async def tagged(call: Call[TaggedQuery, Nothing]) -> TaggedPage:
        body = call.body
        if body.civil_codes and body.filter.civil_codes:
            raise InvalidRequest("civilCodes 只能给出一次", field="filter.civilCodes")
        asked = msgspec.structs.replace(body.filter, civil_codes=body.civil_codes or body.filter.civil_codes)
        narrowed = await selected(asking, call, asked)
        expr = wire.expression(body.expr, "expr")
        await dictionary.check(expr, "expr")
        selection = replace(narrowed, narrowings=(*narrowed.narrowings, Bearing(expr)))
        skip = skip_of(body.page_no, body.page_size)
        ids, found = await queries.page(selection, body.sort, body.page_size, skip=skip)
        tags, values = await annotations.of_devices(ids)
        rows = []
        for row in found.rows:
            borne = tags.get(row.device_id, [])
            shown = msgspec.structs.asdict(lite_of(row, body.geo_coord_sys))
            shown["tagCodes"] = tuple(sorted(tag.value_code for tag in borne))
            rows.append(TaggedDevice(**shown, tags=[wire.device_tag(tag, values) for tag in borne]))
        explained = []
        if body.explain:
            parts = list(terms(expr))
            counts = await annotations.explain(narrowed, [Bearing(part) for part in parts])
            explained = [
                TermCount(part.define_code, list(part.value_codes), count)
                for part, count in zip(parts, counts, strict=True)
            ]
        return TaggedPage(rows, found.total or 0, body.page_no, body.page_size, explained)

    async def annotate(call: Call[AnnotateBody, Nothing]) -> wire.AnnotationDone:
        body, chosen = call.body, call.body.selection
        device_ids = tuple(dict.fromkeys(body.device_ids))
        if bool(device_ids) == (chosen is not None):
            raise InvalidRequest("deviceIds 与 selection 须给出且只能给出一个", field="deviceIds")
        if body.if_version is not None and len(device_ids) != 1:
            raise InvalidRequest("ifVersion 只用于一台设备", field="ifVersion")
        selection = None
        if chosen is not None:
            selection = await selected(asking, call, chosen.filter, chosen.keyword, chosen.match)
        asked = Annotation(
            device_ids,
            selection,
            chosen.expected_count if chosen else 0,
            tuple(wire.setting(one) for one in body.set),
            tuple(body.unset),
            body.mode,
            body.source,
            body.dry_run,
            body.if_version,
        )
        done = await annotations.annotate(subject_of(call), asked, context_of(call))
        failed = [wire.FailedDevice(key, code) for key, code in done.failed]
        return wire.AnnotationDone(done.matched, done.changed, done.unchanged, failed, done.undo_token)

    async def undo(call: Call[wire.UndoBody, Nothing]) -> wire.Undone:
        return wire.Undone(*await annotations.undo(subject_of(call), call.body.undo_token, context_of(call)))

    return [
        _read(
            "listTagGroups", "/groups", "获取标签分组列表", groups, wire.GroupQuery, wire.TagGroups, "E.3-2"
        ),
        _read(
            "listTagDefines",
            "/defines",
            "获取标签定义列表",
            defines,
            wire.DefineQuery,
            Page[wire.TagDefine],
            "E.3-4",
        ),
        _read(
            "tagsOfDevice",
            "/devices/{deviceId}",
            "根据设备 ID 查询标签信息",
            of_device,
            Nothing,
            wire.DeviceTags,
            "E.3-16",
        ),
        _post(
            "queryTaggedDevices",
            "/devices/query",
            "分页查询标签设备",
            tagged,
            TaggedQuery,
            TaggedPage,
            "E.3-13",
        ),
        _post(
            "saveTagEnums",
            "/enums",
            "保存枚举信息",
            save_enums,
            wire.EnumsBody,
            wire.EnumsSaved,
            "E.3-14",
            AuditTag.TAG_CHANGE,
        ),
        _post(
            "annotateDevices",
            "/annotate",
            "场所标签标注",
            annotate,
            AnnotateBody,
            wire.AnnotationDone,
            "E.3-17",
            AuditTag.TAG_ANNOTATE,
        ),
        _post(
            "undoAnnotation",
            "/annotate/undo",
            "撤销标签标注",
            undo,
            wire.UndoBody,
            wire.Undone,
            None,
            AuditTag.TAG_ANNOTATE,
        ),
    ]


def _read(
    name: str, path: str, summary: str, handler: Any, query: Any, response: Any, row: str
) -> AnyOperation:
    return Operation(
        name=name,
        method="GET",
        path=f"/api/v1/tags{path}",
        summary=summary,
        permission=Permission.TAG_READ,
        quota=Quota.QUERY,
        audit=AuditTag.TAG_QUERY,
        body=Nothing,
        query=query,
        response=response,
        handler=handler,
        row=row,
        refusals=(NotFound,) if query is wire.DefineQuery else (),
        statuses=(200, 304) if query is wire.GroupQuery else (200,),
    )


def _post(
    name: str,
    path: str,
    summary: str,
    handler: Any,
    body: Any,
    response: Any,
    row: str | None,
    changes: AuditTag | None = None,
) -> AnyOperation:
    """A question, or with an audit tag a change."""
    return Operation(
        name=name,
        method="POST",
        path=f"/api/v1/tags{path}",
        summary=summary,
        permission=Permission.TAG_READ if changes is None else Permission.TAG_WRITE,
        quota=Quota.QUERY if changes is None else Quota.BULK,
        audit=changes or AuditTag.TAG_QUERY,
        body=body,
        query=Nothing,
        response=response,
        handler=handler,
        row=row,
        is_audited_within=changes is not None,
        refusals=() if changes is None or body is wire.UndoBody else (Conflict, Unprocessable),
    )
