"""Plans as JSON. The only place where the identifiers of Table B.2 are spelled, with the lists of devices by
plan (``devices.plan_lists_http``).

Implements: DB31DSJ/Z 001-2024 Table B.2
Implements: DB31DSJ/Z 001-2024 Table E.4

``CatalogName`` holds the names of all levels, joined by "/", as the remark of B.2-2 wants. ``DeviceIdList``
holds what the caller may know of; ``deniedCount`` says how many more there are. A list of plans leaves
``DeviceIdList`` out: it may have two thousand entries each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from tongshi.errors import Unprocessable
from tongshi.resources.plans.model import (
    MAX_DEVICES,
    MAX_NAME,
    Catalogue,
    Reach,
    Shown,
    Sort,
    Status,
    Visibility,
)
from tongshi.resources.plans.service import CatalogueAsked, PlanAsked
from tongshi.web.operations import Answer, Request

MAX_PAGED_ROWS = 10_000
_Code = Annotated[str, Meta(max_length=64)]
_DeviceId = Annotated[str, Meta(min_length=1, max_length=64)]
_Keyword = Annotated[str, Meta(max_length=64)]
_Version = Annotated[int, Meta(ge=1, le=2**53)]
_PageNo = Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)]
_PageSize = Annotated[int, Meta(ge=1, le=1000)]


class CatalogBody(Request, frozen=True):
    """``CatalogName`` begins at the first level, or below ``parentId``; a division is named by its code."""

    CatalogID: _Code = ""
    CatalogName: Annotated[str, Meta(max_length=3 * MAX_NAME + 2)] = ""
    parent_id: _Code = ""
    order: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    standard_row: Annotated[int, Meta(ge=1, le=81)] | None = None
    visible: Visibility | None = None
    if_version: _Version | None = None


class CatalogQuery(Request, frozen=True):
    """Which catalogues; a search keeps what stands above its matches."""

    keyword: _Keyword = ""
    parent_id: _Code = ""
    depth: Annotated[int, Meta(ge=1, le=3)] = 3
    with_counts: bool = False
    scope: Reach = Reach.ALL


class PlanCatalog(Answer, frozen=True, omit_defaults=True):
    """One catalogue. Counts are of the plans that the caller may see; absent when not asked for."""

    CatalogID: str
    CatalogName: str
    parent_id: str
    level: int
    path: list[str]
    order: int
    standard_row: int | None
    owner: str
    shared: bool
    visible: Visibility
    version: int
    civil_code: str = ""
    PlanCount: int | UnsetType = UNSET
    plan_count_recursive: int | UnsetType = UNSET
    children: list[PlanCatalog] = field(default_factory=list)


class PlanCatalogs(Answer, frozen=True):
    """Trees of catalogues."""

    rows: list[PlanCatalog] = field(name="list")


class PlanBody(Request, frozen=True):
    """A plan to be made (no ``PlanCode``) or changed. ``layout``, ``schedule`` and ``tags`` are not built."""

    PlanName: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    CatalogID: Annotated[str, Meta(min_length=1, max_length=64)]
    DeviceIdList: Annotated[list[_DeviceId], Meta(max_length=MAX_DEVICES)]
    PlanCode: _Code = ""
    PlanDesc: Annotated[str, Meta(max_length=500)] = ""
    layout: Any = None
    schedule: Any = None
    tags: Any = None
    if_version: _Version | None = None
    draft: bool = False


class Validation(Answer, frozen=True):
    """A remark on what was saved."""

    level: Literal["info", "warning"]
    field: str
    message: str


class PlanSaved(Answer, frozen=True):
    """What was saved."""

    PlanCode: str
    version: int
    DeviceCount: int
    validation: list[Validation]


class PlanAnswer(Answer, frozen=True, omit_defaults=True):
    """A plan with every field of Table B.2."""

    CatalogID: str
    CatalogName: str
    PlanCode: str
    PlanName: str
    PlanDesc: str
    PlanCount: int
    DeviceCount: int
    owner: str
    owner_name: str
    owner_org: str
    status: Status
    create_time: datetime | None
    update_time: datetime | None
    version: int
    DeviceIdList: list[str] | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET
    denied_count: int | UnsetType = UNSET
    perms: list[Literal["view", "edit"]] | UnsetType = UNSET


class PlanQuery(Request, frozen=True):
    """Which plans; ``deviceId`` asks which of them use a device, ``tagEnumCode`` one that bears a tag."""

    keyword: _Keyword = ""
    CatalogID: _Code = ""
    owner: Annotated[str, Meta(max_length=128)] = ""
    device_id: _Code = ""
    tag_enum_code: _Code = ""
    status: Status | None = None
    sort: Sort = Sort.UPDATED_DOWN
    page_no: _PageNo = 1
    page_size: _PageSize = 50


class DeleteQuery(Request, frozen=True):
    """``force`` is for plans that run or are shared, which nothing can be yet."""

    force: bool = False


class PlanDeleted(Answer, frozen=True):
    """What went into the recycle bin, and what takes it back within seven days."""

    deleted: list[str]
    undo_token: str


class UndoBody(Request, frozen=True):
    """The token of a deletion."""

    undo_token: Annotated[str, Meta(min_length=1, max_length=64)]


def plan_asked(body: PlanBody) -> PlanAsked:
    """Raises Unprocessable 42203 for parts of a plan that are not built."""
    for name in ("layout", "schedule", "tags"):
        if getattr(body, name) is not None:
            raise Unprocessable(
                f"尚不支持 {name}，预案未保存", code=42203, field=name, details={"supported": ["devices"]}
            )
    return PlanAsked(
        body.PlanCode,
        body.PlanName,
        body.CatalogID,
        tuple(body.DeviceIdList),
        body.PlanDesc,
        body.draft,
        body.if_version,
    )


def catalogue_asked(body: CatalogBody) -> CatalogueAsked:
    """What a body asks for."""
    path = tuple(body.CatalogName.split("/")) if body.CatalogName else ()
    return CatalogueAsked(
        body.CatalogID, path, body.parent_id, body.order, body.standard_row, body.visible, body.if_version
    )


def saved(shown: Shown) -> PlanSaved:
    """What E.4-28 answers: the plan's number and what there is to remark."""
    remarks = []
    if shown.missing:
        text = f"{len(shown.missing)} 台设备已不在档案中"
        remarks.append(Validation("warning", "DeviceIdList", text))
    if shown.denied:
        text = f"预案中另有 {shown.denied} 台不在您可见范围内的设备，已保留"
        remarks.append(Validation("info", "DeviceIdList", text))
    plan = shown.plan
    return PlanSaved(plan.code, plan.revision, plan.device_count, remarks)


def catalogue(found: Catalogue) -> PlanCatalog:
    """One catalogue without counts and children."""
    return PlanCatalog(
        CatalogID=found.id,
        CatalogName="/".join(found.path),
        parent_id=found.parent_id,
        level=len(found.path),
        path=list(found.path),
        order=found.position,
        standard_row=found.standard_row,
        owner=found.owner,
        shared=found.visibility is not Visibility.PRIVATE,
        visible=found.visibility,
        version=found.revision,
        civil_code=found.civil_code,
    )


def plan_in_list(shown: Shown) -> PlanAnswer:
    """A plan without its devices."""
    plan, place = shown.plan, shown.catalogue
    return PlanAnswer(
        CatalogID=place.id,
        CatalogName="/".join(place.path),
        PlanCode=plan.code,
        PlanName=plan.name,
        PlanDesc=plan.description,
        PlanCount=shown.plan_count,
        DeviceCount=plan.device_count,
        owner=plan.owner,
        owner_name=plan.owner_name,
        owner_org=plan.organisation,
        status=plan.status,
        create_time=plan.created_at,
        update_time=plan.updated_at,
        version=plan.revision,
    )
