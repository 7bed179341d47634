"""One cell to one value of our record, or the rule that it breaks.

Wire shapes seen in the field: coordinates as text with 20 decimals, times as epoch milliseconds, yes/no as
1/2 beside Table A.1's 0/1, keyboard numbers of 8 digits, numbers that a spreadsheet made "3.0".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import Final, NamedTuple

from tongshi.clock import BEIJING
from tongshi.protocols.gb28181.types import MAX_LIST_ENTRIES, MAX_TEXT_CHARS
from tongshi.resources.devices.ledger import options
from tongshi.resources.devices.ledger.model import Cell, Kind


class Sheet(NamedTuple):
    """What is known of a whole column: how it writes yes and no, and its given labels."""

    flags: Mapping[str, str] = {}
    labels: Mapping[str, Mapping[str, str]] = {}


class Outcome(NamedTuple):
    """A value (None: nothing to store) and, when something is to be told, the rule and what it means."""

    value: object
    rule: str = ""
    kind: Kind = Kind.CHANGED


Convert = Callable[[str, str, Sheet], Outcome]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?\Z", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{0,40})?\Z", re.ASCII)
_EPOCH_MS = re.compile(r"[0-9]{11,14}\Z", re.ASCII)
_DATE = re.compile(r"([0-9]{4})[-/.年]?([0-9]{1,2})[-/.月]?([0-9]{1,2})日?(?:[ T]([0-9:]{5,8}))?\Z", re.ASCII)
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[-:]?){5}[0-9A-Fa-f]{2}\Z")
_KEYBOARD = re.compile(r"[0-9]{8,9}\Z", re.ASCII)
_SIZE = re.compile(r"([0-9]{2,5})\s*[xX*×]\s*([0-9]{2,5})\Z")
_RESOLUTIONS: Final = {
    "QCIF": "1",
    "CIF": "2",
    "4CIF": "3",
    "D1": "4",
    "720P": "5",
    "1080P": "6",
    "1080I": "6",
}
_YES, _NO = frozenset({"是", "有", "true", "y", "yes"}), frozenset({"否", "无", "false", "n", "no"})
# What a float keeps of a coordinate; more digits than this are noise from a conversion.
_KEPT_DIGITS = 15


def text_of(cell: Cell) -> str:
    """A cell as text without outer blanks; a spreadsheet's 3.0 is 3."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "是" if cell else "否"
    if isinstance(cell, float):
        return str(int(cell)) if isfinite(cell) and cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    return str(cell).strip()


def is_plain(text: str) -> bool:
    """Text that can be kept."""
    return len(text) <= MAX_TEXT_CHARS and not _CONTROL.search(text)


def plain(column: str, text: str, sheet: Sheet) -> Outcome:
    """Text as it is."""
    return Outcome(text)


def whole(column: str, text: str, sheet: Sheet) -> Outcome:
    """A whole number."""
    if not _WHOLE.match(text):
        return Outcome(None, "L-04", Kind.REFUSED)
    return Outcome(int(text.split(".")[0]))


def decimal(column: str, text: str, sheet: Sheet) -> Outcome:
    """A decimal number, of any number of decimals."""
    if not _DECIMAL.match(text):
        return Outcome(None, "L-04", Kind.REFUSED)
    value = float(text)
    digits = text.lstrip("+-").replace(".", "").strip("0")
    return Outcome(value, "L-21") if len(digits) > _KEPT_DIGITS else Outcome(value)


def flag(column: str, text: str, sheet: Sheet) -> Outcome:
    """Yes or no. ``LWSX`` is upside down in 0/1, but not in words and not in 1/2."""
    lowered = text.lower()
    if lowered in _YES or lowered in _NO:
        return Outcome(lowered in _YES)
    convention = sheet.flags.get(column, "01")
    if text not in convention:
        return Outcome(None, "L-06", Kind.REFUSED)
    if convention == "12":
        return Outcome(text == "1", "L-07")
    return Outcome((text == "1") is not (column == "LWSX"))


def coded(column: str, text: str, sheet: Sheet) -> Outcome:
    """One code of a dictionary, as a number of GB/T 28181."""
    code = options.find(column, text, sheet.labels.get(column, {}))
    if code is None:
        return Outcome(None, "L-09", Kind.REFUSED)
    if not code.national:
        return Outcome(None, "L-12", Kind.LOST)
    value = code.national if column == "SXJBMGS" else int(code.national)
    if text.lstrip("0") != code.value:
        return Outcome(value, "L-10")
    return Outcome(value, "L-11") if code.national != code.value else Outcome(value)


def functions(column: str, text: str, sheet: Sheet) -> Outcome:
    """Several codes joined by "/" (SXJGNLX)."""
    found: list[str] = []
    is_lost = is_changed = False
    for part in _parts(text):
        code = options.find(column, part, sheet.labels.get(column, {}))
        if code is None:
            return Outcome(None, "L-09", Kind.REFUSED)
        is_lost |= not code.national
        is_changed |= code.national.lstrip("0") != part.lstrip("0")
        if code.national and code.national not in found:
            found.append(code.national)
    if is_lost:
        return Outcome(tuple(found) or None, "L-12", Kind.LOST)
    return Outcome(tuple(found), "L-11") if is_changed else Outcome(tuple(found))


def departments(column: str, text: str, sheet: Sheet) -> Outcome:
    """SSBMHY: numbers of Table A.1 or their names; others are kept, since the list is extensible."""
    given = sheet.labels.get(column, {})
    names = {name: str(number) for number, name in enumerate(options.DEPARTMENTS, start=1)} | dict(given)
    parts = _parts(text)
    found = tuple(dict.fromkeys(names.get(part, part) for part in parts))
    if len("/".join(found)) > 50 or len(found) > MAX_LIST_ENTRIES:
        return Outcome(None, "L-22", Kind.REFUSED)
    return Outcome(found, "L-10") if found != tuple(parts) else Outcome(found)


def moment(column: str, text: str, sheet: Sheet) -> Outcome:
    """Epoch milliseconds or a date, as Beijing time of the form 2023-06-01T00:00:00."""
    try:
        if _EPOCH_MS.match(text):
            at = datetime.fromtimestamp(int(text) / 1000, BEIJING)
            return Outcome(f"{at:%Y-%m-%dT%H:%M:%S}", "L-13")
        match = _DATE.match(text)
        if match is None:
            return Outcome(None, "L-14", Kind.REFUSED)
        year, month, day, clock = match.groups()
        written = datetime.fromisoformat(f"{year}-{int(month):02}-{int(day):02}T{clock or '00:00:00'}")
    except (ValueError, OverflowError, OSError):
        return Outcome(None, "L-14", Kind.REFUSED)
    value = f"{written:%Y-%m-%dT%H:%M:%S}"
    return Outcome(value) if value == text else Outcome(value, "L-13")


def keyboard(column: str, text: str, sheet: Sheet) -> Outcome:
    """JPBH: 9 digits, or 8 from the days of analogue matrices."""
    return Outcome(text) if _KEYBOARD.match(text) else Outcome(None, "L-15", Kind.REFUSED)


def street(column: str, text: str, sheet: Sheet) -> Outcome:
    """XZQY: eight digits down to the street; a shorter division is taken and noted."""
    if len(text) == 8 and text.isascii() and text.isdigit():
        return Outcome(text)
    if len(text) in (2, 4, 6) and text.isascii() and text.isdigit():
        return Outcome(text, "L-18", Kind.NOTE)
    return Outcome(None, "L-18", Kind.REFUSED)


def address_v4(column: str, text: str, sheet: Sheet) -> Outcome:
    """An IPv4 address."""
    try:
        return Outcome(str(ipaddress.IPv4Address(text)))
    except ValueError:
        return Outcome(None, "L-20", Kind.REFUSED)


def hardware(column: str, text: str, sheet: Sheet) -> Outcome:
    """A MAC address as XX-XX-XX-XX-XX-XX, whatever stands between its digits."""
    if not _MAC.match(text):
        return Outcome(None, "L-20", Kind.REFUSED)
    digits = re.sub("[-:]", "", text).upper()
    return Outcome("-".join(digits[index : index + 2] for index in range(0, 12, 2)))


def resolutions(column: str, text: str, sheet: Sheet) -> Outcome:
    """Codes 1 to 6 of the SDP's f-line, their names, or width x height."""
    found = []
    for part in _parts(text):
        size = _SIZE.match(part)
        value = f"{size[1]}x{size[2]}" if size else _RESOLUTIONS.get(part.upper(), part)
        if not size and value not in "123456":
            return Outcome(None, "L-09", Kind.REFUSED)
        found.append(value)
    return Outcome(tuple(found)) if "/".join(found) == text else Outcome(tuple(found), "L-10")


def police(column: str, text: str, sheet: Sheet) -> Outcome:
    """SSXQGAJG: 12 digits or capitals (GA/T 380)."""
    is_code = len(text) == 12 and text.isascii() and text.isalnum() and text == text.upper()
    return Outcome(text) if is_code else Outcome(None, "L-09", Kind.REFUSED)


def bounded(most: int) -> Convert:
    """Text of at most so many characters."""

    def convert(column: str, text: str, sheet: Sheet) -> Outcome:
        return Outcome(text) if len(text) <= most else Outcome(None, "L-22", Kind.REFUSED)

    return convert


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split("[/,，、;；]", text) if part.strip()][:MAX_LIST_ENTRIES]
