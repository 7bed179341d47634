"""What a catalogue may be called and where it may stand.

Implements: DB31DSJ/Z 001-2024 B.1
Implements: DB31DSJ/Z 001-2024 B.2

A name holds the printed names above it. The first two levels are the standard's: who may not extend them adds
a third level below, a second one where none is printed (rows 54 to 58), or a division where Table B.1 says so
(rows 79 to 81; a district on the second level, its streets on the third), which is made from its code.
"""

from __future__ import annotations

from tongshi.errors import InvalidRequest, Unprocessable
from tongshi.resources.devices import divisions
from tongshi.resources.plans import standard
from tongshi.resources.plans.model import MAX_LEVEL, MAX_NAME, Catalogue, Visibility

_DISTRICT, _STREET = 6, 9


def check_name(name: str) -> str:
    """A name without its path, trimmed. Raises InvalidRequest."""
    name = name.strip()
    if not name or len(name) > MAX_NAME or "/" in name or not name.isprintable():
        raise InvalidRequest(f"目录名称应为 1 至 {MAX_NAME} 个字符，各级之间以 / 分隔", field="CatalogName")
    return name


def check_place(parent: Catalogue | None, name: str, *, may_extend: bool) -> None:
    """Whether a catalogue of that name may be made below ``parent``.

    Raises:
        Unprocessable: 42201, the name is none of Table B.1 and the caller may not extend it.
        InvalidRequest: too deep.
    """
    if parent is not None and len(parent.path) >= MAX_LEVEL:
        raise InvalidRequest(f"预案目录最多 {MAX_LEVEL} 级", field="CatalogName")
    is_printed_level = parent is None or (len(parent.path) == 1 and parent.path[0] not in _OPEN)
    if is_printed_level and not may_extend:
        raise Unprocessable(f"目录“{name}”不在表 B.1 中", code=42201, field="CatalogName")


_OPEN = {row.path[0] for row in standard.ROWS} - standard.CLOSED - standard.DIVIDED


def divided(parent: Catalogue, name: str) -> list[Catalogue]:
    """The catalogues of a division below one of rows 79 to 81: a street after its district.

    Returns:
        Nothing when ``name`` is not the code of a division or ``parent`` is not divided so.
    """
    first = parent.path[0]
    is_code = name.isascii() and name.isdigit() and len(name) in (_DISTRICT, _STREET)
    if first not in standard.DIVIDED or not parent.is_protected or not is_code:
        return []
    if len(parent.path) == 2 and not (len(name) == _STREET and name.startswith(parent.civil_code)):
        return []
    codes = [name[:_DISTRICT], name] if len(name) == _STREET else [name]
    path: tuple[str, ...] = (first,)
    found: list[Catalogue] = []
    above = standard.first_id(first)
    for code in codes:
        called = divisions.name_of(code)
        if not called:
            raise Unprocessable(f"行政区划代码 {code} 不存在", code=42201, field="CatalogName")
        path = (*path, called)
        made = Catalogue(
            standard.division_id(first, code),
            above,
            path,
            civil_code=code,
            is_protected=True,
            visibility=Visibility.ALL,
            position=int(code[-6:]),
        )
        found.append(made)
        above = made.id
    return found
