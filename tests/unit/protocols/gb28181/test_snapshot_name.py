"""The 41 digits of a snapshot's name (9.14.1)."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.clock import BEIJING
from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181.snapshot_name import SnapshotName, bare_name, parse_snapshot_name

PRINTED = "34020000001320000002" "02" "20240520093501123" "01"  # fmt: skip


def test_the_standard_s_example_is_read() -> None:
    name = parse_snapshot_name(PRINTED)
    at = datetime(2024, 5, 20, 9, 35, 1, 123_000, tzinfo=BEIJING)
    assert name == SnapshotName("34020000001320000002", "02", at, 1)
    assert str(name) == PRINTED


def test_folders_and_endings_are_left_out() -> None:
    assert bare_name(f"C:\\pics/{PRINTED}.JPG") == PRINTED
    assert bare_name("a.b.jpeg") == "a.b"
    assert bare_name("") == ""


@pytest.mark.parametrize(
    "name", ["", PRINTED[:-1], PRINTED + "1", "x" + PRINTED[1:], PRINTED[:22] + "20241320093501123" + "01"]
)
def test_another_layout_is_refused(name: str) -> None:
    with pytest.raises(RemoteViolation):
        parse_snapshot_name(name)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=BEIJING)
    ),
    st.integers(0, 99),
)
def test_a_name_survives_the_round_trip(at: datetime, serial: int) -> None:
    name = SnapshotName("34020000001320000002", "02", at, serial)
    assert parse_snapshot_name(str(name)) == name


@given(st.text("0123456789x", max_size=45))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        parse_snapshot_name(text)
    except RemoteViolation:
        pass
