"""A caller's scope as a condition on any table that tells division, owner and device of its rows."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, false, or_, true

from tongshi.sharing.model import Scope

_LAST = chr(0x10FFFF)


def below(civil_code: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Codes that begin with ``prefix``, asked so that an index on them serves."""
    return and_(civil_code >= prefix, civil_code < prefix + _LAST)


def within(
    scope: Scope, civil_code: ColumnElement[str], owner: ColumnElement[str], device_id: ColumnElement[str]
) -> ColumnElement[bool]:
    """Rows that the caller may see; a scope that names nothing sees none."""
    if scope.is_everything:
        return true()
    clauses = [below(civil_code, prefix) for prefix in sorted(scope.civil_codes)]
    if scope.owners:
        clauses.append(owner.in_(sorted(scope.owners)))
    if scope.device_ids:
        clauses.append(device_id.in_(sorted(scope.device_ids)))
    return or_(*clauses) if clauses else false()
