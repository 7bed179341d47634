"""A ledger to devices, with a report of every rule that did something.

Two passes: the first learns of each yes/no column whether it says 0/1 or 1/2, the second reads cells. A bad
cell costs the cell, a bad id the row, nothing costs the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tongshi.resources.devices.ledger import options
from tongshi.resources.devices.ledger.cells import Sheet, is_plain, text_of
from tongshi.resources.devices.ledger.columns import (
    BY_NAME,
    COLUMNS,
    FLAGS,
    ID,
    OTHER_SPELLINGS,
    Column,
)
from tongshi.resources.devices.ledger.model import Cell, Findings, Flags, Kind, LedgerRow

Row = Mapping[str, Cell]
_OTHER = {name: spelling for spelling, name in OTHER_SPELLINGS.items()}
_PLACE = ("longitude", "latitude")
_LIMITS = (180.0, 90.0)


def read(
    rows: Sequence[Row],
    findings: Findings,
    flags: Flags = "auto",
    dictionaries: Mapping[str, Iterable[options.Option]] | None = None,
) -> list[LedgerRow]:
    """Read a whole table.

    Args:
        rows: cells by column, in the order of the file.
        findings: where everything that happened is noted.
        flags: how yes/no is written; ``auto`` decides column by column.
        dictionaries: the importer's own labels of a column.
    """
    labels = {c: options.check(c, given, findings) for c, given in (dictionaries or {}).items()}
    conventions = {name: _convention(name, rows, flags, findings) for name in FLAGS}
    sheet = Sheet(conventions, labels)
    _note_homeless(rows, findings)
    found: dict[str, LedgerRow] = {}
    for number, row in enumerate(rows, start=1):
        device_id = text_of(row.get(ID))
        if not (len(device_id) == 20 and device_id.isascii() and device_id.isdigit()):
            findings.add(number, ID, "L-01", Kind.REFUSED, device_id)
            continue
        if device_id in found:
            findings.add(found.pop(device_id).number, ID, "L-02", Kind.REFUSED, device_id)
        found[device_id] = _device(number, device_id, row, sheet, findings)
    return list(found.values())


def _device(number: int, device_id: str, row: Row, sheet: Sheet, findings: Findings) -> LedgerRow:
    read_ = LedgerRow(number, device_id, {}, {})
    for column in COLUMNS:
        if column.home and column.name != ID:
            text = _spelled(number, column.name, row, findings)
            if text:
                _cell(number, column, text, sheet, findings, read_)
    _check_place(number, read_.item, findings)
    code = str(read_.item.get("civil_code", ""))
    if len(code) >= 6 and code[:6] != device_id[:6]:
        findings.add(number, "XZQY", "L-19", Kind.NOTE, code, device_id[:6])
    return read_


def _cell(number: int, column: Column, text: str, sheet: Sheet, findings: Findings, into: LedgerRow) -> None:
    if not is_plain(text):
        findings.add(number, column.name, "L-22", Kind.REFUSED, repr(text))
        return
    if column.name in FLAGS and sheet.flags.get(column.name) == "":
        return
    outcome = column.convert(column.name, text, sheet)
    if outcome.rule:
        findings.add(number, column.name, outcome.rule, outcome.kind, text, _shown(outcome.value))
    if outcome.value is not None:
        (into.ext if column.is_ext else into.item)[column.attribute] = outcome.value


def _convention(name: str, rows: Sequence[Row], flags: Flags, findings: Findings) -> str:
    """ "01" or "12", or "" when the column contradicts itself."""
    if flags != "auto":
        return flags
    seen = {text_of(row.get(name)) for row in rows} & {"0", "1", "2"}
    if seen >= {"0", "2"}:
        findings.add(0, name, "L-25", Kind.REFUSED, "0, 2")
        return ""
    if name == "LWSX" and seen == {"1"}:
        findings.add(0, name, "L-08", Kind.NOTE, "1", "否")
    return "12" if "2" in seen else "01"


def _spelled(number: int, name: str, row: Row, findings: Findings) -> str:
    """A cell of a column whose name may be written in two ways; the other way counts when both are there."""
    text, spelling = text_of(row.get(name)), _OTHER.get(name)
    other = text_of(row.get(spelling)) if spelling else ""
    if text and other and text != other:
        findings.add(number, name, "L-16", Kind.REFUSED, text, other)
    elif spelling and other and not text:
        findings.add(number, spelling, "L-17", Kind.CHANGED, other, other)
    return other or text


def _check_place(number: int, item: dict[str, object], findings: Findings) -> None:
    """A place is both numbers or none: half of one, or 0/0, is nowhere."""
    told = [item.get(name) for name in _PLACE]
    if told == [None, None]:
        return
    is_place = all(
        isinstance(value, float) and 0.0 < abs(value) <= limit
        for value, limit in zip(told, _LIMITS, strict=True)
    )
    if not is_place:
        findings.add(number, "JD/WD", "L-05", Kind.REFUSED, f"{told[0]}, {told[1]}")
        for name in _PLACE:
            item.pop(name, None)


def _note_homeless(rows: Sequence[Row], findings: Findings) -> None:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(name for name, cell in row.items() if text_of(cell))
    for name, count in sorted(counts.items()):
        column = BY_NAME.get(name)
        if name not in OTHER_SPELLINGS and (column is None or not column.home):
            findings.add(0, name, "L-03", Kind.LOST, f"{count} 个值")


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "是" if value else "否"
    return "/".join(value) if isinstance(value, tuple) else str(value)
