"""Importing a ledger over REST; an extension, no row of Annex E.

Implements: DB31DSJ/Z 001-2024 6.2.2
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.resources.devices.editing import act_of
from tongshi.resources.devices.ledger.model import RULES, Finding, Flags, Kind
from tongshi.resources.devices.ledger.options import Option
from tongshi.resources.devices.ledger.service import BATCH, Ledger
from tongshi.resources.devices.model import Source
from tongshi.sharing.gate import subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

MAX_FINDINGS_SHOWN = 1_000
_Cell = Annotated[str, Meta(max_length=2048)] | int | float | bool | None
_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class LedgerOption(Request, frozen=True):
    """One entry of the importer's dictionary."""

    label: Annotated[str, Meta(max_length=64)]
    value: Annotated[str, Meta(max_length=64)]


class LedgerImport(Request, frozen=True):
    """Rows by column name. Nothing is written unless ``dryRun`` is false.

    ``flags`` says how yes and no are written: 0/1, 1/2, or ``auto``, decided column by column.
    """

    rows: Annotated[
        list[Annotated[dict[_Name, _Cell], Meta(max_length=200)]], Meta(min_length=1, max_length=BATCH)
    ]
    dry_run: bool = True
    flags: Flags = "auto"
    options: Annotated[
        dict[_Name, Annotated[list[LedgerOption], Meta(max_length=1_000)]], Meta(max_length=50)
    ] = field(default_factory=dict)


class LedgerFinding(Answer, frozen=True):
    """One place: what was read, what it became. Row 0 is the whole column."""

    row: int
    column: str
    rule: str
    kind: Kind
    read: str
    became: str


class LedgerRule(Answer, frozen=True):
    """A rule that did something, and how often."""

    rule: str
    message: str
    count: int


class LedgerReport(Answer, frozen=True):
    """What became of the table; of a dry run, what would."""

    dry_run: bool
    row_count: int
    inserted: int
    updated: int
    unchanged: int
    refused: int
    rules: list[LedgerRule]
    findings: list[LedgerFinding]


def operations(ledger: Ledger) -> list[AnyOperation]:
    """The operation that imports a ledger."""

    async def take(call: Call[LedgerImport, Nothing]) -> LedgerReport:
        body = call.body
        dictionaries = {
            column: [Option(option.label, option.value) for option in given]
            for column, given in body.options.items()
        }
        taken = await ledger.take(
            body.rows,
            is_dry_run=body.dry_run,
            flags=body.flags,
            dictionaries=dictionaries,
            act=act_of(subject_of(call), Source.FILE),
        )
        return LedgerReport(
            dry_run=body.dry_run,
            row_count=taken.rows,
            inserted=taken.inserted,
            updated=taken.updated,
            unchanged=taken.unchanged,
            refused=taken.refused,
            rules=[LedgerRule(r, RULES[r], count) for r, count in sorted(taken.findings.counts.items())],
            findings=[_finding(finding) for finding in taken.findings.kept[:MAX_FINDINGS_SHOWN]],
        )

    return [
        Operation(
            name="importLedger",
            method="POST",
            path="/api/v1/archive/ledger:import",
            summary="导入一机一档台账",
            permission=Permission.ARCHIVE_WRITE,
            quota=Quota.BULK,
            audit=AuditTag.ARCHIVE_CHANGE,
            body=LedgerImport,
            query=Nothing,
            response=LedgerReport,
            handler=take,
        )
    ]


def _finding(finding: Finding) -> LedgerFinding:
    return LedgerFinding(
        finding.row, finding.column, finding.rule, finding.kind, finding.read, finding.became
    )
