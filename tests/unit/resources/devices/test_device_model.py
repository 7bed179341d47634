"""What two platforms compare: the canonical form and its digest."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source, canonical, digest
from tongshi.storage.schema import EXT_COLUMNS, ITEM_COLUMNS

ITEM = CatalogItem(device_id="31010400001320000001", name="外滩", civil_code="31010101", longitude=121.4)
ARCHIVE = DeviceArchive(item=ITEM, owner="31010400002000000001")


def test_columns_are_the_fields_of_the_codec_without_status() -> None:
    kinds = {"text": "Text", "list": "Text", "int": "BigInteger", "float": "Float"}
    expected = [
        (f.attribute, kinds[f.kind]) for f in ITEM_FIELDS if f.attribute not in {"device_id", "status"}
    ]
    assert [(name, kind.__name__) for name, kind in ITEM_COLUMNS] == expected


def test_columns_of_table_a1_are_the_extended_attributes() -> None:
    assert tuple(name for name, _ in EXT_COLUMNS) == ExtendedAttributes.__struct_fields__


def test_no_column_and_no_attribute_keeps_a_device_password() -> None:
    names = [name for name, _ in (*ITEM_COLUMNS, *EXT_COLUMNS)]
    assert not [name for name in names if "password" in name or "secret" in name]


@pytest.mark.parametrize(
    "local",
    [
        {"revision": 9},
        {"source": Source.MANUAL},
        {"updated_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"missing_since": datetime(2026, 1, 1, tzinfo=UTC)},
        {"online": True},
        {"item": replace(ITEM, status=DeviceStatus.OFF)},
    ],
)
def test_what_is_local_does_not_change_the_digest(local: dict[str, object]) -> None:
    assert digest(replace(ARCHIVE, **local)) == digest(ARCHIVE)


@pytest.mark.parametrize("name", [f.attribute for f in ITEM_FIELDS if f.attribute != "status"])
def test_every_field_of_the_item_changes_the_digest(name: str) -> None:
    value = getattr(ITEM, name)
    other = ("x",) if isinstance(value, tuple) else 7 if isinstance(value, int | float | None) else "x"
    assert digest(replace(ARCHIVE, item=replace(ITEM, **{name: other}))) != digest(ARCHIVE)


@pytest.mark.parametrize("name", ExtendedAttributes.__struct_fields__)
def test_every_extended_attribute_and_the_owner_change_the_digest(name: str) -> None:
    value = getattr(ARCHIVE.ext, name)
    other = ("1",) if isinstance(value, tuple) else False if value is None else "x"
    ext = replace(ARCHIVE.ext, **{name: other})
    assert digest(replace(ARCHIVE, ext=ext)) != digest(ARCHIVE)
    assert digest(replace(ARCHIVE, owner="x")) != digest(ARCHIVE)


def test_the_canonical_form_is_fixed() -> None:
    # Two platforms of different versions must agree on these bytes; a change here breaks every comparison.
    data = canonical(ARCHIVE)
    assert data.startswith('["31010400002000000001",["31010400001320000001","外滩","","","31010101"'.encode())
    assert data.endswith(b',"","","",null,"","",null,""],[null,"","","","",null,null,"",""]]')
    assert digest(ARCHIVE) == hashlib.new("sm3", data).digest()


def test_a_shard_is_the_first_six_digits_of_the_civil_code() -> None:
    assert ARCHIVE.shard == "310101"
    assert replace(ARCHIVE, item=replace(ITEM, civil_code="31")).shard == "31"
    assert replace(ARCHIVE, item=replace(ITEM, civil_code="")).shard == ""


def test_values_that_are_stored_alike_have_one_canonical_form() -> None:
    def of(**fields: object) -> bytes:
        return canonical(replace(ARCHIVE, item=replace(ITEM, **fields)))

    assert of(longitude=0.0) == of(longitude=-0.0) == of(longitude=0)
    assert of(resolutions=("6", "5")) == of(resolutions=("6/5",))
    assert of(longitude=None) != of(longitude=0.0)
