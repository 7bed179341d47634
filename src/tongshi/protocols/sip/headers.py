"""The header table: ordered, without regard to case, compact forms included.

Implements: GB/T 28181-2022 4.3.2
Values are text as on the wire, one character a byte. What we put in is checked, so that a text that a peer
gave us cannot open a second header; what the parser found needs no second check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tongshi.errors import LocalViolation

_COMPACT = {
    "v": "Via", "f": "From", "t": "To", "m": "Contact", "i": "Call-ID", "s": "Subject", "c": "Content-Type",
    "l": "Content-Length", "k": "Supported", "e": "Content-Encoding", "o": "Event", "u": "Allow-Events",
    "r": "Refer-To", "x": "Session-Expires",
}  # fmt: skip
_USUAL = (
    *_COMPACT.values(), "CSeq", "Max-Forwards", "User-Agent", "Expires", "Allow", "Authorization", "Date",
    "WWW-Authenticate", "X-GB-Ver", "Subscription-State", "Record-Route", "Route", "Require", "Server",
    "Accept", "Min-Expires", "Note", "Monitor-User-Identity", "X-RoutePath", "X-PreferredPath",
)  # fmt: skip
# From a spelling on the wire to the key we compare by. Fixed at import: hostile names cannot make it grow.
KEYS = {name: name.lower() for name in _USUAL} | {name.lower(): name.lower() for name in _USUAL}
KEYS |= {short: full.lower() for short, full in _COMPACT.items()}
KEYS |= {short.upper(): full.lower() for short, full in _COMPACT.items()}

TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z", re.ASCII)
_FORBIDDEN = re.compile(r"[\r\n\0]")


# Further header lines of a message, in order.
Pairs = tuple[tuple[str, str], ...]


class Headers:
    """Ordered header table; names compare without case and compact forms are the long ones.

    Args:
        items: pairs of name and value in order; checked like ``add``.

    Attributes:
        lines: key, name and value of each line.
        parsed: values read so far, by key. Both are this package's own.
    """

    __slots__ = ("lines", "parsed")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.parsed: dict[str, object] = {}
        for name, value in items:
            self.add(name, value)

    def get(self, name: str, default: str = "") -> str:
        """The first value, or ``default``."""
        key = _key(name)
        for item in self.lines:
            if item[0] == key:
                return item[2]
        return default

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, in order, as they stand (comma lists unsplit)."""
        key = _key(name)
        return [item[2] for item in self.lines if item[0] == key]

    def add(self, name: str, value: str) -> None:
        """Append one line. Raises LocalViolation when it would break the message apart."""
        self.lines.append(_checked(name, value))
        self.parsed.clear()

    def set(self, name: str, value: str) -> None:
        """Replace all lines of that name by one, at the place of the first."""
        line = _checked(name, value)
        places = [index for index, item in enumerate(self.lines) if item[0] == line[0]]
        if not places:
            self.lines.append(line)
        else:
            self.lines[places[0]] = line
            for index in reversed(places[1:]):
                del self.lines[index]
        self.parsed.clear()

    def remove(self, name: str) -> None:
        """Drop all lines of that name."""
        key = _key(name)
        self.lines = [item for item in self.lines if item[0] != key]
        self.parsed.clear()

    def take_over(self, other: Headers, *names: str) -> None:
        """Append all lines of these names from another table, name by name; they were checked there."""
        for name in names:
            key = _key(name)
            self.lines += [item for item in other.lines if item[0] == key]
        self.parsed.clear()

    def copy(self) -> Headers:
        """An independent table with the same lines."""
        other = Headers()
        other.lines = list(self.lines)
        return other

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(item[0] == _key(name) for item in self.lines)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, value) for _, name, value in self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(key, value) for key, _, value in self.lines] == [(k, v) for k, _, v in other.lines]

    __hash__ = None  # type: ignore[assignment]  # a mutable table has no hash

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"


def _key(name: str) -> str:
    return KEYS.get(name) or name.lower()


def _checked(name: str, value: str) -> tuple[str, str, str]:
    """One line fit for the table: a peer's text that we pass on must not open a second header."""
    if not TOKEN.match(name) or _FORBIDDEN.search(value):
        raise LocalViolation(f"header {name!r} would break the message")
    return _key(name), name, value.strip(" \t")
