"""MANSCDP bodies as bytes: charset, refusal of the dangerous, repair of the common, reading and writing.

Implements: GB/T 28181-2022 6.10

Reading is two passes. The first hands the decoded text to a hardened parser and is all that a well-formed
body costs. Only when it fails the second pass repairs what devices are known to send: control characters,
bare "&" and "<" in names, unbalanced items (quirks 3 and 4). Both passes are linear in the size of the
body, which is capped, as are its tags (a node costs thirty times its text) and its depth (256, by the
parser). A document type or an entity declaration is refused before anything is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from lxml import etree

from tongshi.errors import LocalViolation, RemoteViolation
from tongshi.protocols.gb28181.types import MAX_LIST_ENTRIES, MAX_TEXT_CHARS

MAX_UDP_BYTES: Final = 256 * 1024
MAX_TCP_BYTES: Final = 8 * 1024 * 1024
MAX_REPAIRED_ITEMS: Final = (
    10_000  # Annex M allows no more items in one message; repair costs ten times reading
)
MAX_TAGS: Final = 500_000  # 5,000 full catalogue items; bounds the tree to about 60 MB

Charset = Literal["gb18030", "gb2312", "utf-8"]

_DECLARATION = re.compile(r"<\?xml\b[^>]{0,200}>", re.IGNORECASE)
_DECLARED_UTF8 = re.compile(rb"""encoding\s{0,8}=\s{0,8}["']utf-?8["']""", re.IGNORECASE)
_DANGEROUS = re.compile(r"<!\s{0,64}(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WIDE_UTF8 = re.compile(rb"[\xe0-\xf4][\x80-\xbf]{2}")
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)")
_NUMERIC_REFERENCE = re.compile(r"&#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});")
_FREE_TEXT_TAG = re.compile(
    r"(</?(?:Name|DeviceName|Address|Manufacturer|Model|Firmware|Block|PointCommonName|ManagementUnit|ContactInfo)>)",
    re.IGNORECASE,
)
_ITEM_START = re.compile(r"(?=<Item[\s>])", re.IGNORECASE)
_LIST_END = re.compile(r"</\s{0,8}(?:DeviceList|RecordList|PresetList)\s{0,8}>", re.IGNORECASE)
_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\x84\x31\x95\x33", "gb18030"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_CODECS: Final = {"gb18030": "gb18030", "gb2312": "gb18030", "gbk": "gb18030", "utf-8": "utf-8"}


def decode_text(body: bytes, charset: str | None = None) -> str:
    """Turn a body into text without ever failing; what cannot be decoded becomes U+FFFD.

    Args:
        body: the bytes as received.
        charset: the charset a profile forces; None applies the rule of the dossier's 1.6: a byte order mark
            decides, then a declared UTF-8, then UTF-8 that shows itself by a wide sequence, else GB 18030.
    """
    if charset is not None:
        return body.decode(codec_name(charset), "replace")
    for mark, codec in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, "replace")
    if body.isascii():
        return body.decode("ascii")
    try:
        text = body.decode("utf-8")  # GB 18030 fails here within a few bytes
    except UnicodeDecodeError:
        return body.decode("gb18030", "replace")
    is_utf8 = _DECLARED_UTF8.search(body, 0, 200) or _WIDE_UTF8.search(body)
    return text if is_utf8 else body.decode("gb18030", "replace")


def codec_name(charset: str) -> str:
    """The Python codec that reads a charset of a profile: a superset where one exists (quirk 2)."""
    try:
        return _CODECS[charset.lower()]
    except KeyError:
        raise LocalViolation(f"unknown charset {charset!r}") from None


def parse(body: bytes, *, charset: str | None = None, limit_bytes: int = MAX_TCP_BYTES) -> Document:
    """Parse a MANSCDP body.

    Raises:
        RemoteViolation: too large, too many tags, a DTD or an entity declaration, or beyond repair.
    """
    if len(body) > limit_bytes:
        raise RemoteViolation(f"XML body of {len(body)} bytes exceeds {limit_bytes}")
    text = decode_text(body, charset)
    text = text.strip("\ufeff\x00 \t\r\n")
    declaration = _DECLARATION.match(text)
    if declaration:
        text = text[declaration.end() :]
    if _DANGEROUS.search(text):
        raise RemoteViolation("document type or entity declaration in an XML body")
    if text.count("<") > MAX_TAGS:
        raise RemoteViolation(f"more than {MAX_TAGS} tags in an XML body")
    root = _strict(text)
    return Document(Reader(root), ()) if root is not None else _repaired(text)


class Document:
    """A parsed body: its root, and the raw items that could not be parsed even after repair."""

    __slots__ = ("broken_items", "root")

    def __init__(self, root: Reader, broken_items: tuple[str, ...]) -> None:
        self.root = root
        self.broken_items = broken_items


class Reader:
    """The children of one element, by name without regard to case (quirk 71); the first of a name wins."""

    __slots__ = ("_children", "element")

    def __init__(self, element: etree._Element) -> None:
        self.element = element
        self._children: dict[str, etree._Element] = {}
        for child in element:
            self._children.setdefault(local_name(child).lower(), child)

    def child(self, *names: str) -> Reader | None:
        """The first child that bears one of the names, which are lower case."""
        for name in names:
            found = self._children.get(name)
            if found is not None:
                return Reader(found)
        return None

    def text(self, *names: str) -> str:
        """The text of the first child that bears one of the names; "" when absent, cut at MAX_TEXT_CHARS."""
        for name in names:
            found = self._children.get(name)
            if found is not None:
                return clean(found.text)
        return ""

    def integer(self, *names: str) -> int | None:
        """The child's text as an integer of 32 bits; None when absent or not a number."""
        return to_int(self.text(*names))

    def each(self, name: str) -> Iterator[etree._Element]:
        """All children of one lower-case name."""
        return (child for child in self.element if local_name(child).lower() == name)

    def texts(self, name: str) -> tuple[str, ...]:
        """The non-empty texts of all children of one lower-case name."""
        return tuple(text for child in self.each(name) if (text := clean(child.text)))

    def attribute(self, name: str) -> str:
        """An attribute of the element itself, by lower-case name (2016 printed ``num`` for ``Num``)."""
        for key, value in self.element.attrib.items():
            if str(key).lower() == name:
                return clean(str(value))
        return ""


def local_name(element: etree._Element) -> str:
    """The tag without a namespace, which instances should not have (24 no. 25)."""
    tag = str(element.tag)
    return tag.rpartition("}")[2] if tag[0] == "{" else tag


def clean(text: str | None) -> str:
    """Text without surrounding blanks, cut at MAX_TEXT_CHARS."""
    return text.strip()[:MAX_TEXT_CHARS].rstrip() if text else ""


def to_int(text: str) -> int | None:
    """An integer within 32 bits, signed; None for anything else."""
    try:
        value = int(text) if len(text) <= 11 else None
    except ValueError:
        return None
    return value if value is not None and -(2**31) <= value < 2**31 else None


def to_float(text: str) -> float | None:
    """A finite number; None for anything else."""
    try:
        value = float(text) if len(text) <= 40 else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e15 else None


def to_list(text: str) -> tuple[str, ...]:
    """The non-empty parts between slashes, at most MAX_LIST_ENTRIES."""
    if "/" not in text:
        return (text,) if text else ()
    parts = [part.strip() for part in text.split("/", MAX_LIST_ENTRIES)]
    return tuple([part for part in parts[:MAX_LIST_ENTRIES] if part])


def element(name: str, value: str | int | float) -> str:
    """One leaf element with its value escaped."""
    return f"<{name}>{escape(value) if isinstance(value, str) else value}</{name}>"


def optional(name: str, value: str | int | float | None) -> str:
    """One leaf element, or nothing for None and ""."""
    return "" if value is None or value == "" else element(name, value)


def escape(text: str) -> str:
    """Text fit for an element: markup escaped, characters that XML forbids removed."""
    if _ILLEGAL.search(text):
        text = _ILLEGAL.sub("", text)
    if "&" in text or "<" in text or ">" in text or "\r" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return text


def document(root: str, content: str, charset: str = "gb18030") -> bytes:
    """A whole body: declaration, root, content.

    A peer of 2.0 or below is told GB2312 and gets bytes of the GBK range (dossier 1.6); what lies outside the
    charset travels as a character reference, so that nothing is lost to a peer that decodes less.
    """
    label = charset.upper()
    codec = "gbk" if charset == "gb2312" else codec_name(charset)
    text = f'<?xml version="1.0" encoding="{label}"?>\r\n<{root}>{content}</{root}>\r\n'
    return text.encode(codec, "xmlcharrefreplace")


def _strict(text: str) -> etree._Element | None:
    # One parser a document: lxml locks a shared one, and errors would pile up in its log.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    try:
        return etree.fromstring(text.encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _repaired(text: str) -> Document:
    text = _escape_free_text(_repair_references(_ILLEGAL.sub("", text)))
    root = _strict(text)
    if root is not None:
        return Document(Reader(root), ())
    head, *chunks = _ITEM_START.split(text)
    if not chunks:
        raise RemoteViolation("XML body is not well formed")
    if len(chunks) > MAX_REPAIRED_ITEMS:
        raise RemoteViolation(f"broken XML body with more than {MAX_REPAIRED_ITEMS} items")
    end = _LIST_END.search(chunks[-1])
    tail = chunks[-1][end.start() :] if end else ""
    chunks[-1] = chunks[-1][: end.start()] if end else chunks[-1]
    root = _strict(head + tail)
    if root is None:
        raise RemoteViolation("XML body is not well formed around its items")
    return _gather(root, chunks)


def _gather(root: etree._Element, chunks: list[str]) -> Document:
    """Hang the items that parse below the list element; keep the text of the others."""
    target = next((child for child in root if local_name(child).lower().endswith("list")), root)
    broken: list[str] = []
    for chunk in chunks:
        item = _strict(chunk)
        if item is None:
            item = _strict(f"{chunk.rstrip()}</{chunk[1:5]}>")  # the closing tag was forgotten
        if item is None:
            broken.append(chunk[:MAX_TEXT_CHARS])
        else:
            target.append(item)
    return Document(Reader(root), tuple(broken))


def _repair_references(text: str) -> str:
    def numeric(match: re.Match[str]) -> str:
        digits = match.group()[2:-1]
        code = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
        character = chr(code) if code <= 0x10FFFF else ""
        return "" if _ILLEGAL.fullmatch(character) else escape(character)

    return _BARE_AMPERSAND.sub("&amp;", _NUMERIC_REFERENCE.sub(numeric, text))


def _escape_free_text(text: str) -> str:
    """Escape "<" between an opening tag of free text and the closing tag that follows it directly."""
    parts = _FREE_TEXT_TAG.split(text)
    for index in range(2, len(parts) - 1, 2):
        if "<" in parts[index] and parts[index + 1].lower() == parts[index - 1].lower().replace("<", "</"):
            parts[index] = parts[index].replace("<", "&lt;")
    return "".join(parts)
