"""An archive as a row comes back as it went, and any bytes give an archive or a refusal."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.exchange import rows
from tongshi.resources.devices.model import Source, digest, flatten
from tongshi.resources.devices.reading_store import archive_of
from tongshi.testing.rest_platform import sample_archives

OWNER = "31010400002000000001"
ARCHIVE = sample_archives(OWNER, 1)[0]
GOOD = (*flatten(ARCHIVE).values, OWNER, 3, 1_700_000_000_000, True, None, "manual")


def test_a_row_comes_back_with_the_digest_of_its_archive() -> None:
    got = rows.parse(rows.encode(GOOD))
    assert got.values == flatten(ARCHIVE).values
    assert (got.owner, got.revision, got.updated_at_ms, got.online) == (OWNER, 3, 1_700_000_000_000, True)
    assert (got.source, got.shard) == (Source.REST, ARCHIVE.shard)
    assert got.digest == digest(ARCHIVE) == digest(archive_of(GOOD))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("device_id", ""),
        ("name", "x" * 5_000),
        ("name", None),
        ("name", "a\0b"),
        ("longitude", 180.5),
        ("latitude", "31"),
        ("parent_ids", "a//b"),
        ("resolutions", "/6"),
        ("resolutions", "/".join(["6"] * 1_000)),
        ("port", 1 << 40),
        ("is_controllable", 1),
        ("industries", "1/"),
        ("owner", "1"),
        ("revision", 0),
        ("updated_at_ms", -1),
        ("online", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_refused(column: str, value: object) -> None:
    row = list(GOOD[:-2])
    row[rows.NAMES.index(column)] = value
    with pytest.raises(InvalidRequest):
        rows.parse(msgspec.Raw(json.dumps(row).encode()))


@pytest.mark.parametrize("change", [lambda row: row[:-1], lambda row: [*row, 1]])
def test_a_row_of_another_length_is_refused(change: Any) -> None:
    with pytest.raises(InvalidRequest):
        rows.parse(msgspec.Raw(json.dumps(change(list(GOOD[:-2]))).encode()))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, len(GOOD) - 3), _json, max_size=4))
def test_any_values_in_any_columns_give_an_archive_or_a_refusal(wrong: dict[int, object]) -> None:
    row = list(GOOD[:-2])
    for place, value in wrong.items():
        row[place] = value
    try:
        got = rows.parse(msgspec.Raw(json.dumps(row).encode()))
    except InvalidRequest:
        return
    assert len(got.values) + 4 == len(row)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        rows.parse(msgspec.Raw(data))
