"""A workbook written as a stream: one row after another, memory flat, codes as text.

Only what a reader needs: inline strings instead of a table of strings, no styles. A sheet that is full is
followed by another with the same header. Text of more than one sort (ECMA-376 22.9.2.19): characters that
XML cannot hold are written ``_xHHHH_``, and so is an underscore that would look like one.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Sequence
from typing import IO
from xml.sax.saxutils import escape

from tongshi.resources.files.table import COLUMNS, Cell

# What spreadsheets open.
MAX_SHEET_ROWS = 1_048_576
SHEET = "设备"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


class XlsxWriter:
    """Writes rows in the order of ``COLUMNS`` onto a binary stream that need not seek."""

    def __init__(self, stream: IO[bytes], max_sheet_rows: int = MAX_SHEET_ROWS) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._max_sheet_rows = max_sheet_rows
        self._letters = [column_letters(index) for index in range(len(COLUMNS))]
        self._sheets = 0
        self._row = 0
        self._sheet: IO[bytes]
        self._open_sheet()

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows."""
        parts: list[str] = []
        for row in rows:
            if self._row >= self._max_sheet_rows:
                self._sheet.write("".join(parts).encode())
                parts = []
                self._close_sheet()
                self._open_sheet()
            parts.append(self._xml(row))
        self._sheet.write("".join(parts).encode())

    def close(self) -> None:
        """End the workbook; the stream stays open."""
        self._close_sheet()
        numbers = range(1, self._sheets + 1)
        sheets = "".join(
            f'<sheet name="{SHEET}{number}" sheetId="{number}" r:id="rId{number}"/>' for number in numbers
        )
        targets = "".join(
            f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" '
            f'Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        kinds = "".join(
            f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_KIND}.worksheet+xml"/>'
            for number in numbers
        )
        self._part(
            "xl/workbook.xml",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
        )
        self._part(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships">{targets}</Relationships>',
        )
        self._part(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        self._part(
            "[Content_Types].xml",
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>{kinds}</Types>',
        )
        self._zip.close()

    def discard(self) -> None:
        """Let go of a workbook that is not to be whole."""
        for part in (self._sheet, self._zip):
            with contextlib.suppress(OSError, ValueError):
                part.close()

    def _open_sheet(self) -> None:
        self._sheets += 1
        self._row = 0
        self._sheet = self._zip.open(f"xl/worksheets/sheet{self._sheets}.xml", "w", force_zip64=True)
        self._sheet.write(f'{_DECLARATION}<worksheet xmlns="{_MAIN}"><sheetData>'.encode())
        self._sheet.write(self._xml(COLUMNS).encode())

    def _close_sheet(self) -> None:
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()

    def _part(self, name: str, xml: str) -> None:
        self._zip.writestr(name, _DECLARATION + xml)

    def _xml(self, row: Sequence[Cell]) -> str:
        self._row += 1
        number = self._row
        found = [f'<row r="{number}">']
        for letters, value in zip(self._letters, row, strict=True):
            if isinstance(value, str):
                found.append(
                    f'<c r="{letters}{number}" t="inlineStr"><is><t xml:space="preserve">'
                    f"{_text(value)}</t></is></c>"
                )
            elif value is not None:
                found.append(f'<c r="{letters}{number}"><v>{value!r}</v></c>')
        found.append("</row>")
        return "".join(found)


def column_letters(index: int) -> str:
    """A, B, ..., Z, AA for 0, 1, ..., 25, 26."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _text(value: str) -> str:
    return escape(_UNSAFE.sub(lambda match: f"_x{ord(match.group()):04X}_", value))
