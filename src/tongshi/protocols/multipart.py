"""The parts of a multipart/form-data body that is already here; nothing is copied but what is asked for.

Implements: GB/T 28181-2022 9.14
How pictures are uploaded the standard leaves open; devices send forms (RFC 7578) or the bare picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tongshi.errors import RemoteViolation

MAX_PARTS: Final = 16
MAX_HEAD_BYTES: Final = 4_096

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))""", re.IGNORECASE)
_PARAMETER = re.compile(r"""(?:^|;)\s*(name|filename)=(?:"([^"]*)"|([^;\s]*))""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part: the field's name, the file's name ("" for a plain field), its type, its bytes."""

    name: str
    file_name: str
    content_type: str
    content: bytes


def boundary_of(content_type: str) -> str | None:
    """The boundary that a Content-Type names; None when it is no form."""
    if content_type.partition(";")[0].strip().lower() not in ("multipart/form-data", "multipart/mixed"):
        return None
    found = _BOUNDARY.search(content_type)
    return None if found is None else found[1] or found[2]


def parse_form(body: bytes, boundary: str) -> list[FormPart]:
    """Take a form apart.

    Raises:
        RemoteViolation: no end, no blank line after a head, a head or a number of parts beyond the bounds.
    """
    line = b"--" + boundary.encode("latin-1", "replace")
    at = 0 if body.startswith(line) else body.find(b"\r\n" + line) + 2
    if at == 1:
        raise RemoteViolation("表单缺少分隔行")
    parts: list[FormPart] = []
    while True:
        at += len(line)
        if body[at : at + 2] == b"--":
            return parts
        if len(parts) >= MAX_PARTS:
            raise RemoteViolation(f"表单超过 {MAX_PARTS} 项")
        begin = body.find(b"\r\n", at, at + 64)
        head_end = body.find(b"\r\n\r\n", begin, begin + MAX_HEAD_BYTES) if begin >= 0 else -1
        if head_end < 0:
            raise RemoteViolation("表单分项的头部无法解析")
        end = body.find(b"\r\n" + line, head_end + 2)
        if end < 0:
            raise RemoteViolation("表单不完整")
        parts.append(_part(body[begin:head_end], body[head_end + 4 : end]))
        at = end + 2


def _part(head: bytes, content: bytes) -> FormPart:
    name = file_name = content_type = ""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            given = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(value)}
            name, file_name = given.get("name", ""), given.get("filename", "")
        elif field.strip().lower() == "content-type":
            content_type = value.strip().lower()
    return FormPart(name, file_name, content_type, content)
