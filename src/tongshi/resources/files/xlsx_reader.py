"""A workbook read as a stream, by strangers' hands: bounded members, no entities, no formulas.

A general reader builds the whole sheet before it tells what is in it, and one cell at XFD1048576 makes that
whole immense. Here rows go by one at a time, a formula is named with its place, and nothing is kept but the
table of strings, which is bounded and lies in a file of its own: a million rows have millions of them.
"""

from __future__ import annotations

import mmap
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from posixpath import join, normpath
from xml.parsers import expat

from tongshi.errors import Unprocessable
from tongshi.resources.files.csv_rows import header
from tongshi.resources.files.model import MAX_INFLATED_BYTES, bad_file
from tongshi.resources.files.table import NUMERIC, Cell

MAX_MEMBERS = 1_000
MAX_SHEETS = 64
MAX_CELL_CHARS = 32_767
MAX_STRINGS = 16_000_000
MAX_STRING_CHARS = 1024 * 1024 * 1024
_MAX_COLUMNS = 16_384
_CHUNK = 1 << 16
_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]{1,7}\Z")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    expat.ExpatError,
)
_SERIAL_DAY_0 = datetime(1899, 12, 30)
# Whole numbers above this have lost digits in a spreadsheet.
_EXACT = 10**15


class Archive:
    """A zip file of which no more than a bound is ever inflated."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as error:
            raise bad_file("不是完整的 ZIP 文件", rule="zip") from error
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > MAX_INFLATED_BYTES:
            self._zip.close()
            raise bad_file("解压后过大", rule="zip-bomb")
        self.names = frozenset(member.filename for member in members)
        self._left = MAX_INFLATED_BYTES

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def size(self, name: str) -> int:
        """Length of a member when it is inflated, as the directory promises."""
        return self._zip.getinfo(name).file_size

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a member. Raises Unprocessable when it is missing, broken or past the bound."""
        try:
            with self._zip.open(name) as member:
                while chunk := member.read(_CHUNK):
                    self._left -= len(chunk)
                    if self._left < 0:
                        raise bad_file("解压后过大", rule="zip-bomb")
                    yield chunk
        except _BROKEN as error:
            raise bad_file(f"ZIP 成员 {name[:64]} 无法读取", rule="zip") from error

    def read(self, name: str, limit_bytes: int) -> bytes:
        """A small member whole."""
        found = b""
        for chunk in self.chunks(name):
            found += chunk
            if len(found) > limit_bytes:
                raise bad_file(f"ZIP 成员 {name[:64]} 过大", rule="zip-bomb")
        return found


def read_xlsx(path: Path) -> Iterator[tuple[str, int, dict[str, Cell] | Unprocessable]]:
    """Rows of every sheet whose first row names DeviceID: sheet, number, cells or what is wrong with them.

    Raises:
        Unprocessable: no such sheet, an unknown column, a broken or swollen file; with the place.
    """
    with Archive(path) as archive, closing(_strings(archive)) as strings:
        yield from _read_sheets(archive, strings)


def _read_sheets(
    archive: Archive, strings: Strings
) -> Iterator[tuple[str, int, dict[str, Cell] | Unprocessable]]:
    is_found = False
    for sheet, member in _sheets(archive):
        names: list[str] = []
        for number, row in _rows(archive, sheet, member, strings):
            if not names:
                if "DeviceID" not in row.values():
                    break
                names = header(_in_order(row), sheet)
                is_found = True
                continue
            yield sheet, number, _cells(names, row, sheet, number)
    if not is_found:
        raise bad_file("没有第一行含 DeviceID 的工作表", rule="header", row=1, column="DeviceID")


def estimate_xlsx(path: Path) -> int:
    """About how many rows the sheets have: their length, by that of the first rows."""
    total = 0.0
    with Archive(path) as archive:
        for _, member in _sheets(archive):
            head = next(archive.chunks(member), b"")
            rows = head.count(b"<row")
            total += archive.size(member) * rows / max(len(head), 1)
    return round(total)


class _Fault(str):
    """Stands where a cell holds no value: the rule it breaks."""

    __slots__ = ()


_FAULTS = {"formula": "单元格含有公式", "cell": "单元格是错误值或不是数值", "long": "单元格过长"}


_Row = dict[int, str | float]


def _in_order(row: _Row) -> list[str]:
    return [str(row.get(index, "")) for index in range(max(row) + 1)]


def _cells(names: list[str], row: _Row, sheet: str, number: int) -> dict[str, Cell] | Unprocessable:
    found: dict[str, Cell] = {}
    for index, value in row.items():
        if index >= len(names):
            return bad_file("单元格多于表头", rule="columns", sheet=sheet, row=number)
        name = names[index]
        cell = _number(value, name) if isinstance(value, float) else value
        if isinstance(cell, _Fault):
            message = _FAULTS.get(cell, "数字已失去精度或不是日期，该列应为文本")
            return bad_file(f"{name}：{message}", rule=cell, sheet=sheet, row=number, column=name)
        found[name] = cell.strip() if isinstance(cell, str) and name in NUMERIC else cell
    return found


def _number(value: float, name: str) -> Cell:
    """What a number means in a column; twenty digits that were typed as one are not what was typed."""
    is_exact = value.is_integer() and abs(value) < _EXACT
    if name in NUMERIC:
        return int(value) if is_exact else value
    if name == "InstallTime":
        return _date(value)
    return str(int(value)) if is_exact else _Fault("text")


def _date(value: float) -> str:
    if not 1 <= value < 2_958_466:
        return _Fault("date")
    return (_SERIAL_DAY_0 + timedelta(seconds=round(value * 86400))).isoformat()


def _sheets(archive: Archive) -> list[tuple[str, str]]:
    """Names of sheets with the members that hold them, in the workbook's order."""
    targets: dict[str, str] = {}
    named: list[tuple[str, str]] = []

    def relation(name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and len(targets) < MAX_MEMBERS:
            target = attributes.get("Target", "")
            absolute = target.lstrip("/") if target.startswith("/") else normpath(join("xl", target))
            targets[attributes.get("Id", "")] = absolute

    def sheet(name: str, attributes: dict[str, str]) -> None:
        if name == "sheet" and len(named) <= MAX_SHEETS:
            key = next((value for name, value in attributes.items() if name.endswith(":id")), "")
            named.append((attributes.get("name", "")[:64], key))

    _walk(archive, "xl/_rels/workbook.xml.rels", relation)
    _walk(archive, "xl/workbook.xml", sheet)
    if len(named) > MAX_SHEETS:
        raise bad_file(f"工作表多于 {MAX_SHEETS} 张", rule="sheets")
    return [(name, targets[key]) for name, key in named if targets.get(key) in archive.names]


class Strings:
    """Texts by number, in a file that has no name; eight bytes of memory each."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by ``close``
        self._ends = array("Q", [0])
        self._map: mmap.mmap | None = None

    def append(self, text: str) -> None:
        """Add the next; not after the first was looked up."""
        data = text.encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), max(self._ends[-1], 1)) if self._ends[-1] else None
        if self._map is None:
            return ""
        return self._map[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Forget them."""
        if self._map is not None:
            self._map.close()
        self._file.close()


def _strings(archive: Archive) -> Strings:
    """The table of strings; phonetic guides left out."""
    found = Strings()
    if "xl/sharedStrings.xml" not in archive.names:
        return found
    parts: list[str] = []
    state = {"guide": 0, "text": 0, "chars": 0}

    def start(name: str, _: dict[str, str]) -> None:
        if name == "rPh":
            state["guide"] += 1
        elif name == "t":
            state["text"] += 1
        elif name == "si":
            parts.clear()

    def end(name: str) -> None:
        if name == "rPh":
            state["guide"] -= 1
        elif name == "t":
            state["text"] -= 1
        elif name == "si":
            found.append(_unescaped("".join(parts)))
            if len(found) > MAX_STRINGS:
                raise bad_file("共享字符串过多", rule="strings")

    def text(data: str) -> None:
        if state["text"] and not state["guide"]:
            state["chars"] += len(data)
            if state["chars"] > MAX_STRING_CHARS:
                raise bad_file("共享字符串过长", rule="strings")
            parts.append(data)

    _walk(archive, "xl/sharedStrings.xml", start, end, text)
    return found


class _SheetState:
    """Rows as they end, taken away after each chunk."""

    def __init__(self, sheet: str, strings: Strings) -> None:
        self.rows: list[tuple[int, _Row]] = []
        self._sheet = sheet
        self._strings = strings
        self._number = 0
        self._row: _Row = {}
        self._column = -1
        self._kind = ""
        self._has_formula = False
        self._is_text = False
        self._parts: list[str] = []
        self._chars = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            given = attributes.get("r", "")
            number = int(given) if given.isascii() and given.isdigit() and len(given) < 8 else 0
            self._number = max(self._number + 1, number)
            self._row, self._column = {}, -1
        elif name == "c":
            match = _REFERENCE.match(attributes.get("r", ""))
            self._column = _index(match.group(1)) if match else self._column + 1
            if self._column >= _MAX_COLUMNS:
                raise bad_file("列过多", rule="columns", sheet=self._sheet, row=self._number)
            self._kind = attributes.get("t", "n")
            self._has_formula = False
            self._parts, self._chars = [], 0
        elif name == "f":
            self._has_formula = True
        elif name in ("v", "t"):
            self._is_text = True

    def text(self, data: str) -> None:
        if self._is_text:
            self._chars += len(data)
            if self._chars <= MAX_CELL_CHARS:
                self._parts.append(data)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._is_text = False
        elif name == "c":
            value = self._value("".join(self._parts))
            if value != "":
                self._row[self._column] = value
        elif name == "row" and self._row:
            self.rows.append((self._number, self._row))
            self._row = {}

    def _value(self, text: str) -> str | float:
        if self._has_formula:
            return _Fault("formula")
        if self._chars > MAX_CELL_CHARS:
            return _Fault("long")
        if text == "" or self._kind in ("str", "inlineStr", "d"):
            return _unescaped(text)
        if self._kind == "s":
            is_known = text.isascii() and text.isdigit() and len(text) < 9 and int(text) < len(self._strings)
            return self._strings[int(text)] if is_known else _Fault("cell")
        if self._kind == "e":
            return _Fault("cell")
        try:
            return float(text)
        except ValueError:
            return _Fault("cell")


def _rows(archive: Archive, sheet: str, member: str, strings: Strings) -> Iterator[tuple[int, _Row]]:
    state = _SheetState(sheet, strings)
    parser = _parser(state.start, state.end, state.text)
    for chunk in archive.chunks(member):
        _feed(parser, chunk, member)
        taken, state.rows = state.rows, []
        yield from taken
    _feed(parser, b"", member, is_final=True)
    yield from state.rows


def _walk(
    archive: Archive,
    member: str,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] = lambda name: None,
    text: Callable[[str], None] = lambda data: None,
) -> None:
    parser = _parser(start, end, text)
    for chunk in archive.chunks(member):
        _feed(parser, chunk, member)
    _feed(parser, b"", member, is_final=True)


def _parser(
    start: Callable[[str, dict[str, str]], None], end: Callable[[str], None], text: Callable[[str], None]
) -> expat.XMLParserType:
    # Prefixes are cut off by hand: a sheet has a hundred elements a row, and namespaces double the time.
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def on_start(name: str, attributes: dict[str, str]) -> None:
        start(name.rpartition(":")[2] if ":" in name else name, attributes)

    def on_end(name: str) -> None:
        end(name.rpartition(":")[2] if ":" in name else name)

    def refuse(*_: object) -> None:
        raise bad_file("XML 含有文档类型声明", rule="dtd")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    return parser


def _feed(parser: expat.XMLParserType, chunk: bytes, member: str, *, is_final: bool = False) -> None:
    try:
        parser.Parse(chunk, is_final)
    except (expat.ExpatError, UnicodeError) as error:
        raise bad_file(f"{member[:64]} 不是完整的 XML", rule="xml") from error


def _index(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _unescaped(text: str) -> str:
    if "_x" not in text:
        return text
    return _ESCAPED.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    number = int(match.group(1), 16)
    # Half a surrogate is no character; it stays as it was written.
    return match.group() if 0xD800 <= number <= 0xDFFF else chr(number)
