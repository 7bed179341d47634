"""The operations of viewing against the table's rules and the standard's rows."""

from __future__ import annotations

from typing import Any, cast

from tongshi.resources.viewing.http import operations
from tongshi.web.annex_e import ROWS
from tongshi.web.operations import check_table


def test_the_operations_keep_the_rules_and_the_rows_of_the_standard() -> None:
    made = operations(cast(Any, None), cast(Any, None))
    check_table(made)
    rows = {row.row: row for row in ROWS}
    listed = [operation for operation in made if operation.row is not None]
    assert [operation.row for operation in listed] == ["E.2-1", "E.2-2", "E.2-6"]
    for operation in listed:
        row = rows[str(operation.row)]
        assert (operation.name, operation.method, operation.path) == (row.name, row.method, row.path)
        assert (operation.summary, operation.permission.value) == (row.summary, row.permission)
