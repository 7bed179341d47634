"""CSV as spreadsheets read it: UTF-8 with a mark, and no cell that a spreadsheet would run as a formula.

A text cell that begins with = + - @ tab or CR is written with an apostrophe before it, and so is one that
begins with apostrophes before such a sign; reading takes one away, so that what was written comes back.
A cell that begins with = or @ when it is read was meant to be run, and is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tongshi.errors import Unprocessable
from tongshi.resources.files.model import bad_file
from tongshi.resources.files.table import COLUMNS, NUMERIC, Cell

_RISKY = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_SIGNS = frozenset("'=+-@\t\r")
_FORMULA = ("=", "@")
_CHUNK = 1 << 16


class CsvWriter:
    """Writes rows in the order of ``COLUMNS`` onto a binary stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer)
        self._stream.write(codecs.BOM_UTF8)
        self._writer.writerow(COLUMNS)

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows."""
        self._writer.writerows([[guard(value) for value in row] for row in rows])
        self._flush()

    def close(self) -> None:
        """End the file; the stream stays open."""
        self._flush()

    def _flush(self) -> None:
        self._stream.write(self._buffer.getvalue().encode("utf-8", "replace"))
        self._buffer.seek(0)
        self._buffer.truncate()


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, Cell] | Unprocessable]]:
    """Rows with their number, the header being 1: cells by column, or what is wrong with them.

    Raises:
        Unprocessable: no header, an unknown column, bytes that are no text, a cell past 128 KiB.
    """
    encoding = _encoding(path)
    number = 1
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = header(next(reader, []))
            for number, row in enumerate(reader, start=2):
                if row:
                    yield number, _read(names, row, number)
        except (csv.Error, UnicodeDecodeError) as error:
            raise bad_file(
                f"第 {number} 行之后无法按 CSV 读取，请检查是否有未成对的引号", rule="csv", row=number
            ) from error


def header(names: Sequence[str], sheet: str = "") -> list[str]:
    """Check the names of columns: all known, none twice, DeviceID among them."""
    found = [name.strip() for name in names]
    while found and not found[-1]:
        found.pop()
    for index, name in enumerate(found):
        if name not in COLUMNS:
            raise bad_file(_unknown(name[:64]), rule="header", sheet=sheet, row=1, column=name[:64])
        if name in found[:index]:
            raise bad_file(f"列 {name} 出现两次", rule="header", sheet=sheet, row=1, column=name)
    if "DeviceID" not in found:
        raise bad_file("表头缺少 DeviceID 列", rule="header", sheet=sheet, row=1, column="DeviceID")
    return found


def _unknown(name: str) -> str:
    if not name.isprintable():
        return "文件不是表格：表头中有不可见字符"
    return f"不认识的列“{name}”；列名须为国标或表 A.1 的标识，可先导出一份作样表"


def guard(value: Cell) -> str:
    """A cell as text that no spreadsheet runs."""
    if value is None:
        return ""
    if isinstance(value, str):
        # Nearly no cell begins with one of these, and the pattern costs more than the look.
        return f"'{value}" if value[:1] in _SIGNS and _RISKY.match(value) else value
    return repr(value)


def _read(names: Sequence[str], row: Sequence[str], number: int) -> dict[str, Cell] | Unprocessable:
    found: dict[str, Cell] = {}
    if len(row) > len(names):
        return bad_file("单元格多于表头", rule="columns", row=number)
    for name, text in zip(names, row, strict=False):
        if text.startswith(_FORMULA):
            return bad_file(f"{name}：单元格含有公式", rule="formula", row=number, column=name)
        value = text[1:] if _GUARDED.match(text) else text
        found[name] = value.strip() if name in NUMERIC else value
    return found


def _encoding(path: Path) -> str:
    """UTF-8, or GB 18030 as Chinese spreadsheets save it."""
    for encoding in ("utf-8-sig", "gb18030"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise bad_file("既不是 UTF-8 也不是 GB 18030 文本；请在表格软件中另存为“CSV UTF-8”", rule="encoding")
