"""``tongshi ledger``: import and export ledgers of cameras (一机一档), with or without a running platform.

The database takes one writer at a time, so that a platform may run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import SystemClock
from tongshi.config.sections import Config, load
from tongshi.errors import InvalidRequest
from tongshi.resources.devices import reading_store
from tongshi.resources.devices import store as device_store
from tongshi.resources.devices.ledger import csv_table, options, writing
from tongshi.resources.devices.ledger.model import RULES, Findings, Kind
from tongshi.resources.devices.ledger.service import Ledger
from tongshi.resources.devices.service import DeviceArchives
from tongshi.storage.engine import Database

_PAGE = 2_000
_REPORT = ("row", "column", "rule", "kind", "read", "became", "message")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``tongshi ledger``."""
    what = parser.add_subparsers(dest="what", required=True, metavar="what")
    take = what.add_parser("import", help="read a ledger; a dry run unless --apply")
    take.add_argument("file", type=Path)
    take.add_argument("--apply", action="store_true", help="store what was read")
    take.add_argument(
        "--options", type=Path, help="JSON: {column: [{label, value}]}, the district's dictionary"
    )
    give = what.add_parser("export", help="write this platform's own devices as a ledger")
    give.add_argument("file", type=Path)
    for each in (take, give):
        each.add_argument("--config", type=Path, required=True)
        each.add_argument(
            "--flags", choices=("auto", "01", "12"), default="auto", help="how yes/no is written"
        )
        each.add_argument("--report", type=Path, help="write every finding into this CSV file")


def run_cli(args: argparse.Namespace) -> int:
    """0 when all rows went in or out, 1 when rows or cells were refused."""
    config = load(args.config)
    run = _import if args.what == "import" else _export
    return asyncio.run(run(config, args))


async def _import(config: Config, args: argparse.Namespace) -> int:
    rows = csv_table.load(args.file)
    dictionaries = _dictionaries(args.options) if args.options else None
    clock = SystemClock()
    database = await Database.open(config.storage.url)
    try:
        ledger = Ledger(
            DeviceArchives(database, device_store, clock, config.platform.id), config.platform.id, clock
        )
        taken = await ledger.take(
            rows, is_dry_run=not args.apply, flags=args.flags, dictionaries=dictionaries
        )
        if args.apply:
            details: dict[str, object] = {
                "file": args.file.name,
                "rows": len(rows),
                "inserted": taken.inserted,
            }
            entry = audit.AuditEntry(
                clock.at(),
                AuditTag.ARCHIVE_CHANGE,
                Outcome.DONE,
                subject_kind="system",
                subject_name="tongshi ledger import",
                details=details,
            )
            await database.write(audit.append, entry)
    finally:
        await database.close()
    done = "已导入" if args.apply else "试运行，未写入"
    print(
        f"{done}：{len(rows)} 行，新增 {taken.inserted}，更新 {taken.updated}，"
        f"不变 {taken.unchanged}，未导入 {taken.refused}"
    )
    _tell(taken.findings, args.report)
    return 1 if any(finding.kind is Kind.REFUSED for finding in taken.findings.kept) else 0


async def _export(config: Config, args: argparse.Namespace) -> int:
    database = await Database.open(config.storage.url)
    archives = []
    try:
        after = ""
        while page := await database.read(reading_store.iter_owned, config.platform.id, after, _PAGE):
            archives += page
            after = page[-1].device_id
    finally:
        await database.close()
    findings = Findings()
    rows = writing.write(archives, findings, args.flags)
    args.file.write_bytes(csv_table.render(writing.NAMES, rows))
    print(f"已导出 {len(rows)} 台设备到 {args.file}")
    _tell(findings, args.report)
    return 0


def _dictionaries(path: Path) -> dict[str, list[options.Option]]:
    try:
        given = msgspec.json.decode(path.read_bytes(), type=dict[str, list[dict[str, str]]])
        return {
            column: [options.Option(entry["label"], entry["value"]) for entry in entries]
            for column, entries in given.items()
        }
    except (OSError, KeyError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"字典 {path} 无法读取：{error}", field="options") from None


def _tell(findings: Findings, report: Path | None) -> None:
    for rule, count in sorted(findings.counts.items()):
        print(f"  {rule} {RULES[rule]}：{count}")
    if report is not None:
        rows = [
            dict(
                zip(
                    _REPORT,
                    (str(f.row), f.column, f.rule, f.kind.value, f.read, f.became, RULES[f.rule]),
                    strict=True,
                )
            )
            for f in findings.kept
        ]
        report.write_bytes(csv_table.render(_REPORT, rows))
        print(f"明细见 {report}", file=sys.stderr)
