"""A ledger as a CSV file: UTF-8 or GB 18030 in, UTF-8 with a mark out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from tongshi.errors import InvalidRequest

MAX_BYTES = 256 * 1024 * 1024
MAX_ROWS = 200_000
MAX_COLUMNS = 200
_ENCODINGS = ("utf-8-sig", "gb18030")
# What a spreadsheet would run as a formula is written as text (with an apostrophe before it).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def load(path: Path) -> list[dict[str, str]]:
    """Rows by column name.

    Raises:
        InvalidRequest: not there, too large, no text, no header, or a column twice.
    """
    if not path.is_file():
        raise InvalidRequest(f"文件 {path} 不存在", field="file")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidRequest(f"文件超过 {MAX_BYTES >> 20} MB", field="file")
    return parse(path.read_bytes())


def parse(data: bytes) -> list[dict[str, str]]:
    """Rows of a file's bytes; errors as ``load``."""
    reader = csv.reader(io.StringIO(_decode(data), newline=""))
    rows: list[dict[str, str]] = []
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_header(names)
        for cells in reader:
            if len(cells) > len(names):
                raise InvalidRequest(f"第 {len(rows) + 1} 行的单元格多于表头", field="file")
            if len(rows) >= MAX_ROWS:
                raise InvalidRequest(f"超过 {MAX_ROWS} 行，请分批导入", field="file")
            row = {name: _unguarded(cell) for name, cell in zip(names, cells, strict=False) if name}
            if any(row.values()):
                rows.append(row)
    except csv.Error as error:
        raise InvalidRequest(f"第 {len(rows) + 1} 行之后无法按 CSV 读取：{error}", field="file") from None
    return rows


def render(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    """The bytes of a file with these columns."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([[_guarded(row.get(name, "")) for name in names] for row in rows])
    return text.getvalue().encode("utf-8-sig", "replace")


def _decode(data: bytes) -> str:
    for encoding in _ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidRequest("文件既不是 UTF-8 也不是 GB 18030 文本", field="file")


def _check_header(names: Sequence[str]) -> None:
    named = [name for name in names if name]
    if not named or len(names) > MAX_COLUMNS:
        raise InvalidRequest(f"第一行应为列名，最多 {MAX_COLUMNS} 列", field="file")
    if len(set(named)) != len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise InvalidRequest(f"列 {twice[:64]} 出现两次", field="file")


def _guarded(cell: str) -> str:
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
