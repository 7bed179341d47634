"""Search without a word list: what an archive's text is cut into, and what a keyword asks of the pieces.

Implements: DB31DSJ/Z 001-2024 E.1-6

Chinese has no spaces, and neither engine's own tokenizer finds one or two characters. So we cut ourselves:
name and address into pairs of characters, the id and the initials of the name's pinyin into runs of four,
and the last pieces of each are shorter, so that a short keyword is the beginning of some piece. The index
holds only pieces; it proposes candidates, never too few, and the folded text decides (``Needle``).
Pieces are plain ASCII letters and digits: no engine cuts them again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from itertools import zip_longest
from math import ceil

MAX_KEYWORD = 64
# Of a fuzzy keyword's pairs of characters, this share must be there.
FUZZY_SHARE = 0.6
_PAIR, _RUN = 2, 4
_FIELD = "\n"


class Match(StrEnum):
    """How a keyword meets a name, an address, an id or initials."""

    CONTAINS = "contains"
    PREFIX = "prefix"
    EXACT = "exact"
    FUZZY = "fuzzy"


@dataclass(frozen=True, slots=True)
class Document:
    """What is searched: lines of folded text (name, address, id), lines of initials."""

    text: str
    initials: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that must be in the index, whole or as the beginning of one."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part must be there."""

    parts: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part must be there."""

    parts: tuple[Asked, ...]


Asked = Piece | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Needle:
    """A keyword made ready.

    Attributes:
        asked: what the index is asked for; every match is among its answers.
        whole: text that must stand in the document's text or initials, or
        pairs: of which at least ``least`` must stand in the text (fuzzy; empty otherwise).
    """

    asked: Asked
    whole: str
    pairs: tuple[str, ...] = ()
    least: int = 0

    @property
    def is_short(self) -> bool:
        """Whether some piece is asked for by its beginning only."""
        return _has_prefix(self.asked)

    def matches(self, document: Document) -> bool:
        """The definition; the database says the same in SQL."""
        if self.whole in document.text or self.whole in document.initials:
            return True
        return bool(self.pairs) and sum(pair in document.text for pair in self.pairs) >= self.least


def fold(text: str) -> str:
    """Text as it is compared: full and half width alike, lower case, one space for any white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def document(device_id: str, name: str, address: str) -> Document:
    """The document of one archive."""
    name = fold(name)
    text = _FIELD.join(("", name, fold(address), fold(device_id), ""))
    lines = dict.fromkeys((_initials(name, 0), _initials(name, 1)))
    return Document(text, _FIELD.join(("", *lines, "")))


def pieces(of: Document) -> list[str]:
    """Every piece of a document, each once, in order; equal documents give equal pieces."""
    _, name, address, device_id, _ = of.text.split(_FIELD)
    found = set(_pairs(name))
    found.update(_pairs(address))
    found.update(_runs("i", device_id))
    for line in of.initials.split(_FIELD):
        found.update(_runs("p", line))
    return sorted(found)


def needle(keyword: str, match: Match) -> Needle | None:
    """Make a keyword ready; None when nothing is left of it and everything matches."""
    folded = fold(keyword)
    if not folded:
        return None
    before = _FIELD if match in (Match.PREFIX, Match.EXACT) else ""
    after = _FIELD if match is Match.EXACT else ""
    whole = before + folded + after
    pairs = tuple(dict.fromkeys(folded[i : i + _PAIR] for i in range(len(folded) - 1)))
    if match is not Match.FUZZY or len(pairs) < 2:
        return Needle(_anywhere(folded), whole)
    loose = AnyOf((_anywhere(folded), *(_anywhere(pair) for pair in pairs)))
    return Needle(loose, whole, pairs, ceil(len(pairs) * FUZZY_SHARE))


def _has_prefix(asked: Asked) -> bool:
    return asked.is_prefix if isinstance(asked, Piece) else any(map(_has_prefix, asked.parts))


def _anywhere(text: str) -> Asked:
    """The pieces of every document that holds ``text`` in some line."""
    ways: list[Asked] = [_window(text, _PAIR, "t", _hex)]
    if text.isascii():
        ways += [_window(text, _RUN, "i", _plain), _window(text, _RUN, "p", _plain)]
    return AnyOf(tuple(ways)) if len(ways) > 1 else ways[0]


def _window(text: str, size: int, mark: str, write: Callable[[str], str]) -> Asked:
    if len(text) < size:
        return Piece(mark + write(text), is_prefix=True)
    windows = dict.fromkeys(mark + write(text[i : i + size]) for i in range(len(text) - size + 1))
    return AllOf(tuple(Piece(window) for window in windows))


def _pairs(line: str) -> list[str]:
    codes = list(map(_code, line))
    return ["t" + one + after for one, after in zip_longest(codes, codes[1:], fillvalue="")]


def _runs(mark: str, line: str) -> list[str]:
    plain = _plain(line)
    return [mark + plain[i : i + _RUN] for i in range(len(plain))]


@lru_cache(maxsize=65_536)
def _code(character: str) -> str:
    # Four digits each; characters past the first plane share codes, and the folded text tells them apart.
    return f"{ord(character) & 0xFFFF:04x}"


def _hex(text: str) -> str:
    return "".join(map(_code, text))


def _plain(text: str) -> str:
    return _NOT_PLAIN.sub("0", text)


_NOT_PLAIN = re.compile(r"[^0-9a-z]")

# Characters of place names that are read in two ways: the reading that names prefer, then the other.
_TWO_WAYS = {
    "行": "hx",
    "长": "cz",
    "重": "cz",
    "朝": "cz",
    "曾": "zc",
    "单": "ds",
    "厦": "xs",
    "乐": "ly",
    "会": "hk",
    "校": "xj",
    "传": "cz",
    "弹": "dt",
    "调": "dt",
    "藏": "cz",
    "降": "jx",
}


def _initials(folded: str, reading: int) -> str:
    """First letters of the pinyin; ASCII letters and digits stand for themselves, the rest is left out."""
    known = _readings()
    letters = []
    for character in folded:
        both = _TWO_WAYS.get(character)
        letters.append(both[reading] if both else known.get(character, ""))
    return "".join(letters)


@cache
def _readings() -> dict[str, str]:
    # Imported at first use: the dictionary costs a fifth of a second and some memory.
    from pypinyin import Style, pinyin_dict
    from pypinyin.style import convert

    found = {character: character for character in "0123456789abcdefghijklmnopqrstuvwxyz"}
    for code, spoken in pinyin_dict.pinyin_dict.items():
        letter = convert(spoken.split(",")[0], Style.FIRST_LETTER, strict=False)[:1]
        if "a" <= letter <= "z":
            found[chr(code)] = letter
    return found
