"""What of the record an upper platform is shown as catalogue items."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from tongshi.clock import ManualClock
from tongshi.gateways.signalling import recorded_archive
from tongshi.gateways.signalling.ports import Wanted
from tongshi.gateways.signalling.recorded_archive import RecordedArchive
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices.model import DeviceArchive, Placed
from tongshi.sharing.model import Scope

AREA = "31010100002160000001"
OWN, LOWER, UPPER, NVR = (
    "31010100002000000001",
    "31010400002000000001",
    "31000000002000000001",
    "31010100001180000001",
)


def archive(number: int, owner: str = OWN, online: bool | None = True, *parents: str) -> DeviceArchive:
    item = CatalogItem(device_id=f"3101010000132000000{number}", parent_ids=parents)
    return DeviceArchive(item=item, owner=owner, online=online)


async def shared(*archives: DeviceArchive, wanted: Wanted = Wanted()) -> list[CatalogItem]:  # noqa: B008
    asked: list[str] = []

    async def scope(subject: Any, *_: object) -> Scope:
        asked.append(subject.id)
        return Scope(is_everything=True)

    def place(one: DeviceArchive) -> Placed:
        item = one.item
        return Placed(item.device_id, one.owner, item.civil_code, item.parent_ids, one.revision, at)

    async def placed(_: Scope, after: str, limit: int, named: str) -> list[Placed]:
        return [place(one) for one in archives if one.item.device_id > after][:limit]

    async def get_many(codes: Sequence[str], _: Scope) -> dict[str, DeviceArchive]:
        return {one.item.device_id: one for one in archives if one.item.device_id in codes}

    at = ManualClock().at()

    async def words(_: Sequence[str]) -> dict[str, Any]:
        return {}

    devices: Any = SimpleNamespace(placed=placed, get_many=get_many, words=words)
    access: Any = SimpleNamespace(scope=scope)
    recorded = RecordedArchive(devices, access, ManualClock(), OWN)
    codes, is_matched = await recorded.shared_codes(UPPER, wanted)
    assert is_matched is bool(codes)
    items = await recorded.shared_items(UPPER, codes)
    assert set(asked) == {UPPER}
    return items


async def test_a_device_names_its_parent_or_its_system_and_its_organisation() -> None:
    items = await shared(
        archive(1, OWN, True, NVR, LOWER),
        archive(2),
        archive(3, LOWER),
        archive(4, LOWER, True, AREA),
        archive(5, OWN, True, NVR, AREA),
    )
    told = [item.parent_ids for item in items]
    assert told == [(NVR, LOWER), (OWN,), (LOWER,), (LOWER, AREA), (NVR, AREA)]
    assert all(kind_of(item.device_id) is ItemKind.DEVICE for item in items)


async def test_unknown_status_is_off_and_known_status_is_told() -> None:
    items = await shared(archive(1), archive(2, OWN, False), archive(3, OWN, None))
    assert [item.status for item in items] == [DeviceStatus.ON, DeviceStatus.OFF, DeviceStatus.OFF]


async def test_every_page_is_shown_and_nothing_goes_back_to_its_owner(monkeypatch: Any) -> None:
    monkeypatch.setattr(recorded_archive, "SHARED_PAGE", 2)
    items = await shared(archive(1), archive(2, UPPER), archive(3, LOWER), archive(4), archive(5))
    assert [item.device_id[-1] for item in items] == ["1", "3", "4", "5"]


async def test_what_goes_up_has_every_mandatory_field_and_a_valid_division() -> None:
    """C-10, C-15 and C-19 of the checklist: a device that told little still goes up whole."""
    odd = CatalogItem(device_id="31010100001320000009", civil_code="3101010000")
    (item,) = await shared(DeviceArchive(item=odd, owner=OWN, online=True))
    assert (item.grassroots_code, item.point_type, item.parental) == ("000000", 9, 0)
    assert item.civil_code == "310101"
    (untold,) = await shared(archive(1))
    assert untold.civil_code == "310101"
