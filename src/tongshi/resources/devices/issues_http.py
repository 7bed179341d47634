"""Issues of archives: a list, a report, the table of rules. An extension; no row of Annex E lists it.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import InvalidRequest
from tongshi.resources.devices.http import MAX_PAGED_ROWS
from tongshi.resources.devices.inspection import Inspection
from tongshi.resources.devices.inspection_store import IssueFilters, IssueRow
from tongshi.resources.devices.rules.check import BY_NUMBER, RULES
from tongshi.resources.devices.rules.model import Severity
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Page, Quota, Request

_Owner = Annotated[str, Meta(pattern=r"^(?:[0-9]{20})?\Z")]
_Civil = Annotated[str, Meta(pattern=r"^(?:[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{8})?\Z")]


class IssuesQuery(Request, frozen=True):
    """Which issues; all filters must hold."""

    owner: _Owner = ""
    civil_code: _Civil = ""
    rule: Annotated[str, Meta(pattern=r"^(?:(?:GB|A1|X)-[0-9]{2})?\Z")] = ""
    severity: Severity | None = None
    page_no: Annotated[int, Meta(ge=1, le=MAX_PAGED_ROWS)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50


class ReportQuery(Request, frozen=True):
    """Counts by owning platform or by administrative division (six digits)."""

    by: Literal["owner", "civilCode"] = "owner"
    owner: _Owner = ""
    civil_code: _Civil = ""
    severity: Severity | None = None


class DeviceIssue(Answer, frozen=True):
    """A device and a rule that it breaks."""

    device_id: str
    name: str
    civil_code: str
    owner: str
    rule: str
    field: str
    severity: Severity
    message: str


class RuleCount(Answer, frozen=True):
    """How many devices break a rule."""

    rule: str
    field: str
    severity: Severity
    message: str
    count: int


class IssuePage(Page[DeviceIssue], frozen=True):
    """One page of issues. ``isCurrent`` is false while archives wait for inspection."""

    counts: list[RuleCount]
    is_current: bool


class GroupReport(Answer, frozen=True):
    """The counts of one owner or division."""

    key: str
    total: int
    counts: list[RuleCount]


class IssueReport(Answer, frozen=True):
    """Counts by rule for each group that the caller may see."""

    rows: list[GroupReport] = field(name="list")
    is_current: bool


class RuleRow(Answer, frozen=True):
    """One rule."""

    rule: str
    clause: str
    field: str
    severity: Severity
    message: str


class RuleTable(Answer, frozen=True):
    """Every rule, in the order of the table."""

    rows: list[RuleRow] = field(name="list")


def operations(inspection: Inspection, access: Access) -> list[AnyOperation]:
    """The operations on issues."""

    async def page(call: Call[Nothing, IssuesQuery]) -> IssuePage:
        query = call.query
        if query.page_no * query.page_size > MAX_PAGED_ROWS:
            raise InvalidRequest("翻页过深，请缩小查询范围", code=40006, field="pageNo")
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        filters = IssueFilters(query.owner, query.civil_code, _rules(query.rule, query.severity))
        rows, total = await inspection.page(scope, filters, query.page_no, query.page_size)
        counts = [_count(rule, count) for _, rule, count in await inspection.counts(scope, filters)]
        is_current = await inspection.is_current()
        return IssuePage([_row(r) for r in rows], total, query.page_no, query.page_size, counts, is_current)

    async def report(call: Call[Nothing, ReportQuery]) -> IssueReport:
        query = call.query
        scope = await access.scope(subject_of(call), Permission.ARCHIVE_READ, context_of(call))
        filters = IssueFilters(query.owner, query.civil_code, _rules("", query.severity))
        groups: dict[str, list[RuleCount]] = {}
        by: Literal["owner", "civil_code"] = "owner" if query.by == "owner" else "civil_code"
        for key, rule, count in await inspection.counts(scope, filters, by):
            groups.setdefault(key, []).append(_count(rule, count))
        rows = [GroupReport(key, sum(c.count for c in found), found) for key, found in groups.items()]
        return IssueReport(rows, await inspection.is_current())

    async def rules(_: Call[Nothing, Nothing]) -> RuleTable:
        return RuleTable([RuleRow(r.number, r.clause, r.field, r.severity, r.message) for r in RULES])

    return [
        Operation(
            name="listArchiveIssues",
            method="GET",
            path="/api/v1/archive/issues",
            summary="查询档案质量问题",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.ARCHIVE_QUERY,
            body=Nothing,
            query=IssuesQuery,
            response=IssuePage,
            handler=page,
        ),
        Operation(
            name="reportArchiveIssues",
            method="GET",
            path="/api/v1/archive/issues/report",
            summary="按平台或行政区划统计档案质量问题",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_QUERY,
            body=Nothing,
            query=ReportQuery,
            response=IssueReport,
            handler=report,
        ),
        Operation(
            name="listArchiveRules",
            method="GET",
            path="/api/v1/archive/rules",
            summary="查询档案质量规则",
            permission=Permission.ARCHIVE_READ,
            quota=Quota.QUERY,
            audit=AuditTag.ARCHIVE_QUERY,
            body=Nothing,
            query=Nothing,
            response=RuleTable,
            handler=rules,
        ),
    ]


def _rules(number: str, severity: Severity | None) -> frozenset[str] | None:
    if not number and severity is None:
        return None
    return frozenset(
        rule.number
        for rule in RULES
        if number in ("", rule.number) and (severity is None or rule.severity == severity)
    )


def _row(row: IssueRow) -> DeviceIssue:
    return DeviceIssue(row.device_id, row.name, row.civil_code, row.owner, row.rule, *_shown(row.rule))


def _count(number: str, count: int) -> RuleCount:
    return RuleCount(number, *_shown(number), count)


def _shown(number: str) -> tuple[str, Severity, str]:
    # A rule that a later edition dropped may still stand in the table for a moment.
    rule = BY_NUMBER.get(number)
    return ("", "info", "") if rule is None else (rule.field, rule.severity, rule.message)
