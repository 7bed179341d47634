"""Whatever an archive holds, the rules answer and do not raise."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem, DeviceStatus
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes
from tongshi.resources.devices.rules.check import BY_NUMBER, check

AT = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = st.text(max_size=24) | st.text("0123456789", max_size=22)
LIST = st.lists(TEXT, max_size=4).map(tuple)
NUMBER = st.none() | st.integers(-(2**53), 2**53)
KINDS: dict[str, st.SearchStrategy[object]] = {
    "text": TEXT,
    "list": LIST,
    "int": NUMBER,
    "float": st.none() | st.floats(),
    "enum": st.sampled_from(DeviceStatus),
}
ITEMS = st.fixed_dictionaries({f.attribute: KINDS[f.kind] for f in ITEM_FIELDS})
FLAG = st.none() | st.booleans()
EXTS = st.builds(
    ExtendedAttributes,
    is_controllable=FLAG,
    keyboard_number=TEXT,
    storage_device_ip=TEXT,
    storage_channel=TEXT,
    scene_photo_url=TEXT,
    has_positioning_module=FLAG,
    is_networked=FLAG,
    police_jurisdiction=TEXT,
    industries=LIST,
)


@given(ITEMS, EXTS)
def test_any_archive_gives_issues_of_the_table(item: dict[str, object], ext: ExtendedAttributes) -> None:
    archive = DeviceArchive(item=CatalogItem(**item), ext=ext, owner="x")  # type: ignore[arg-type]
    issues = check(archive, AT)
    assert all(issue.rule in BY_NUMBER for issue in issues)
    assert len({issue.rule for issue in issues}) == len(issues)
