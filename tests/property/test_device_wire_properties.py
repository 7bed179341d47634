"""Whatever arrives as a device is an archive or names its fault; whatever is an archive survives the wire."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices import wire
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source, digest

_NAMES = [f.wire for f in ITEM_FIELDS] + ["Info", "ext", "version", "sourcePlatform", "updateTime"]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
_ENTRIES = st.lists(_TEXT.filter(lambda t: t and "/" not in t), max_size=3).map(tuple)
_BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "text": _TEXT,
    "list": _ENTRIES,
    "int": st.none() | st.integers(0, 65_535),
    "float": st.none() | st.floats(-90, 90).filter(math.isfinite),
    "enum": st.none() | st.sampled_from(DeviceStatus),
}
_ITEMS: st.SearchStrategy[CatalogItem] = st.fixed_dictionaries(
    {f.attribute: _BY_KIND[f.kind] for f in ITEM_FIELDS}
    | {
        "device_id": st.from_regex(r"[!-~]{1,64}", fullmatch=True),
        "register_way": st.integers(0, 9),
        "secrecy": st.integers(0, 1),
    }
).map(lambda values: CatalogItem(**values))
_EXTS = st.builds(
    ExtendedAttributes,
    is_controllable=st.none() | st.booleans(),
    keyboard_number=st.sampled_from(["", "12345678", "123456789"]),
    has_positioning_module=st.none() | st.booleans(),
    is_networked=st.none() | st.booleans(),
    industries=st.lists(st.sampled_from(["1", "2", "18", "其他"]), max_size=5).map(tuple),
)


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=6))
def test_any_object_is_an_archive_or_names_its_fault(value: dict[str, object]) -> None:
    try:
        archive = wire.parse({"DeviceID": "31010400001320000001", **value})
    except InvalidRequest:
        return
    assert len(digest(archive)) == 32


@given(st.binary(max_size=200))
def test_any_bytes_are_an_archive_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        wire.decode(data)


@settings(max_examples=60)
@given(_ITEMS, _EXTS)
def test_every_archive_survives_the_wire(item: CatalogItem, ext: ExtendedAttributes) -> None:
    online = None if item.status is None else item.status is DeviceStatus.ON
    archive = DeviceArchive(
        item=item, ext=ext, owner="31010400002000000001", source=Source.REST, online=online
    )
    back = wire.decode(msgspec.json.encode(wire.to_full(archive)))
    assert back == archive
    assert digest(back) == digest(archive)
