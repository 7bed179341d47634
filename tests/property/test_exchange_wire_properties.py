"""Any archive survives the wire; any bytes give an archive or a named refusal."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.exchange import wire
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, canonical

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=8)
_INT = st.integers(-(2**31), 2**31 - 1)
_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "str": _TEXT,
    "str | None": st.none() | _TEXT,
    "int": _INT,
    "int | None": st.none() | _INT,
    "float | None": st.none() | st.floats(-90, 90),
    "bool | None": st.none() | st.booleans(),
    "tuple[str, ...]": st.lists(_WORD, max_size=4).map(tuple),
}


def _fields(shape: type[msgspec.Struct], *skip: str) -> dict[str, st.SearchStrategy[Any]]:
    return {name: _KINDS[kind] for name, kind in shape.__annotations__.items() if name not in skip}


_ARCHIVES = st.builds(
    DeviceArchive,
    item=st.builds(
        CatalogItem,
        device_id=st.text("0123456789", min_size=1, max_size=64),
        **_fields(CatalogItem, "device_id", "status"),
    ),
    ext=st.builds(ExtendedAttributes, **_fields(ExtendedAttributes)),
    owner=st.from_regex(r"[0-9]{20}", fullmatch=True),
    revision=st.integers(1, 2**53 - 1),
    updated_at=st.datetimes(timezones=st.just(UTC)),
    online=st.none() | st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(_ARCHIVES)
def test_an_archive_survives_the_wire_and_keeps_its_digest(archive: DeviceArchive) -> None:
    got = wire.parse(wire.encode(archive))
    assert canonical(got) == canonical(archive)
    assert (got.owner, got.revision, got.updated_at, got.online) == (
        archive.owner,
        archive.revision,
        archive.updated_at,
        archive.online,
    )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.binary(max_size=3))
def test_any_bytes_give_an_archive_or_a_named_refusal(noise: bytes, place: int, spoil: bytes) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    item = CatalogItem(device_id="31010400001310000001", name="名", longitude=121.0)
    good = bytes(
        wire.encode(DeviceArchive(item=item, owner="31010400002000000001", revision=1, updated_at=at))
    )
    place %= len(good)
    for data in (
        noise,
        good[:place] + spoil + good[place:],
        good[:place] + spoil + good[place + len(spoil) :],
    ):
        with contextlib.suppress(InvalidRequest):
            assert isinstance(wire.parse(msgspec.Raw(data)), DeviceArchive)
