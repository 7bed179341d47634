"""Which tags a device must bear: all, any and none of some terms, nested.

Implements: DB31DSJ/Z 001-2024 E.3-13
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from tongshi.errors import InvalidRequest

MAX_DEPTH: Final = 4
MAX_TERMS: Final = 50


@dataclass(frozen=True, slots=True)
class Term:
    """The device bears one of the values; with no values named, any value of the definition."""

    define_code: str
    value_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """Every one of ``all_of`` holds, at least one of ``any_of`` if there is any, and none of ``none_of``."""

    all_of: tuple[Expression, ...] = ()
    any_of: tuple[Expression, ...] = ()
    none_of: tuple[Expression, ...] = ()

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (*self.all_of, *self.any_of, *self.none_of)


Expression = Term | Node


def holds(expression: Expression, bears: Callable[[Term], bool]) -> bool:
    """The definition; the database says the same in SQL."""
    if isinstance(expression, Term):
        return bears(expression)
    return (
        all(holds(part, bears) for part in expression.all_of)
        and (not expression.any_of or any(holds(part, bears) for part in expression.any_of))
        and not any(holds(part, bears) for part in expression.none_of)
    )


def bearer(tags: Collection[tuple[str, str]]) -> Callable[[Term], bool]:
    """Whether a device with these ``(definition, value)`` fits a term."""

    def bears(term: Term) -> bool:
        return any(
            (not term.define_code or define == term.define_code)
            and (not term.value_codes or value in term.value_codes)
            for define, value in tags
        )

    return bears


def terms(expression: Expression) -> Iterator[Term]:
    """Every term, in the order written."""
    if isinstance(expression, Term):
        yield expression
        return
    for part in expression.parts:
        yield from terms(part)


def check(expression: Expression, field: str) -> None:
    """Raises InvalidRequest: deeper than ``MAX_DEPTH``, more than ``MAX_TERMS`` terms, or an empty part."""
    count = _count(expression, 1, field)
    if count > MAX_TERMS:
        raise InvalidRequest(f"标签条件超过 {MAX_TERMS} 项", field=field)


def _count(expression: Expression, depth: int, field: str) -> int:
    if isinstance(expression, Term):
        if not expression.define_code and not expression.value_codes:
            raise InvalidRequest("标签条件为空", field=field)
        return 1
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"标签条件嵌套超过 {MAX_DEPTH} 层", field=field)
    if not expression.parts:
        raise InvalidRequest("标签条件为空", field=field)
    return sum(_count(part, depth + 1, field) for part in expression.parts)
