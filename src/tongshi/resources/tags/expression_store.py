"""Expressions over tags in SQL."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, not_, or_, select

from tongshi.resources.tags.expression import Expression, Term
from tongshi.storage.schema import device_tag

_t = device_tag.c


@dataclass(frozen=True, slots=True)
class Bearing:
    """Narrows to devices whose tags an expression holds for (``devices.selection.Narrowing``)."""

    expression: Expression

    def clause(self, conn: Connection, device_id: ColumnElement[str]) -> ColumnElement[bool]:
        return clause(self.expression, device_id)


def clause(expression: Expression, device_id: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition on the column that holds the device's id."""
    if isinstance(expression, Term):
        return _term(expression, device_id)
    ways = [clause(part, device_id) for part in expression.all_of]
    if expression.any_of:
        ways.append(or_(*(clause(part, device_id) for part in expression.any_of)))
    ways += [not_(clause(part, device_id)) for part in expression.none_of]
    return and_(*ways)


def _term(term: Term, device_id: ColumnElement[str]) -> ColumnElement[bool]:
    bearing = select(_t.device_id)
    if term.define_code:
        bearing = bearing.where(_t.define_code == term.define_code)
    if term.value_codes:
        bearing = bearing.where(_t.enum_code.in_(term.value_codes))
    return device_id.in_(bearing)
