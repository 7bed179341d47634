"""Whatever a ledger holds, it is read without an exception and what is kept can be stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.ledger import csv_table, reading, writing
from tongshi.resources.devices.ledger.columns import COLUMNS
from tongshi.resources.devices.ledger.model import Findings
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, digest

NAMES = [column.name for column in COLUMNS] + ["SXJCJYSZPURL", "FOO"]
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.text(alphabet="0123456789./-: T+eE×xX是否", max_size=25),
    st.sampled_from(["1", "2", "0", "球机", "1/2/99", "00:11:22:33:44:55", "1543593600000"]),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"SBBM": st.from_regex(r"[0-9]{20}\Z", fullmatch=True)},
        optional=dict.fromkeys(NAMES[1:], CELLS),
    ),
    max_size=4,
)


@given(ROWS)
def test_any_cells_give_devices_that_can_be_kept_and_written_again(rows: list[reading.Row]) -> None:
    read = reading.read(rows, Findings())
    archives = [
        DeviceArchive(
            item=CatalogItem(device_id=row.device_id, **row.item),  # type: ignore[arg-type]  # by column
            ext=ExtendedAttributes(**row.ext),  # type: ignore[arg-type]  # by column
            owner="31010400002000000001",
        )
        for row in read
    ]
    assert all(len(digest(archive)) == 32 for archive in archives)
    table = writing.write(archives, Findings())
    again = reading.read(csv_table.parse(csv_table.render(writing.NAMES, table)), Findings(), "01")
    assert [row.device_id for row in again] == [row.device_id for row in read]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    try:
        rows = csv_table.parse(data)
    except InvalidRequest:
        return
    reading.read(rows, Findings())


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\r")), max_size=5))
def test_a_cell_that_was_written_is_read_back(cells: list[str]) -> None:
    rows = [{"A": "x", "B": cell} for cell in cells]
    assert csv_table.parse(csv_table.render(("A", "B"), rows)) == rows
