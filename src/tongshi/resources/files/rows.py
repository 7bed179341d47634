"""Rows of a file in any form, one by one: an archive, or the place and the rule that is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from tongshi.errors import InvalidRequest, TongshiError, Unprocessable
from tongshi.resources.devices import wire
from tongshi.resources.files.csv_rows import read_csv
from tongshi.resources.files.model import MAX_IMPORT_ROWS, MAX_LINE_BYTES, Format, ReadRow, RowError, bad_file
from tongshi.resources.files.parquet_reader import count_parquet, read_parquet
from tongshi.resources.files.table import Cell, archive_of, finite
from tongshi.resources.files.xlsx_reader import Archive, estimate_xlsx, read_xlsx

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def sniff(path: Path) -> Format | None:
    """The form of a file by its first bytes; None for a package."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PAR1", b"PARE")):
        return Format.PARQUET
    if head.startswith(b"PK\x03\x04"):
        with Archive(path) as archive:
            return None if MANIFEST in archive.names else Format.XLSX
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return Format.NDJSON if text.startswith(b"{") else Format.CSV


def read_rows(path: Path, form: Format) -> Iterator[ReadRow]:
    """Rows in the order of the file.

    Raises:
        Unprocessable: the file as a whole cannot be read, or has more than ``MAX_IMPORT_ROWS`` rows.
    """
    for count, row in enumerate(_read(path, form)):
        if count >= MAX_IMPORT_ROWS:
            raise bad_file(f"超过 {MAX_IMPORT_ROWS} 行", rule="rows", sheet=row.sheet, row=row.number)
        yield row


def estimate(path: Path, form: Format) -> int:
    """About how many rows a bare file has, for the time that remains; 0 when it cannot be told."""
    try:
        if form is Format.PARQUET:
            return count_parquet(path)
        if form is Format.XLSX:
            return estimate_xlsx(path)
    except TongshiError:
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))


def _read(path: Path, form: Format) -> Iterator[ReadRow]:
    if form is Format.NDJSON:
        yield from _read_ndjson(path)
    elif form is Format.CSV:
        for number, cells in read_csv(path):
            yield _row("", number, cells)
    elif form is Format.PARQUET:
        for number, cells in read_parquet(path):
            yield _row("", number, cells)
    else:
        for sheet, number, cells in read_xlsx(path):
            yield _row(sheet, number, cells)


def _row(sheet: str, number: int, cells: dict[str, Cell] | Unprocessable) -> ReadRow:
    if isinstance(cells, Unprocessable):
        column, rule = str(cells.details["column"]), str(cells.details["rule"])
        error = RowError(sheet, number, column, "", cells.code, rule, cells.message)
        return ReadRow(sheet, number, error=error)
    try:
        return ReadRow(sheet, number, archive_of(cells))
    except TongshiError as error:
        return ReadRow(sheet, number, error=broken(sheet, number, error, str(cells.get("DeviceID") or "")))


def _read_ndjson(path: Path) -> Iterator[ReadRow]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise bad_file(f"一行超过 {MAX_LINE_BYTES} 字节", rule="line", row=number)
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                yield ReadRow("", number, finite(wire.decode(line)))
            except (TongshiError, RecursionError) as error:
                refusal = error if isinstance(error, TongshiError) else InvalidRequest("JSON 嵌套过深")
                yield ReadRow("", number, error=broken("", number, refusal, _id_of(line)))


def broken(sheet: str, number: int, error: TongshiError, device_id: str) -> RowError:
    """A row that breaks a rule of the archive, with its column as the file spells it."""
    column = (error.field or "").removeprefix("Info.").removeprefix("ext.")
    return RowError(sheet, number, column, device_id[:64], 42202, "archive", error.message)


class _Named(msgspec.Struct):
    DeviceID: str = ""


def _id_of(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Named).DeviceID
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
