"""A platform above asks by each kind of id and gets what Annex J says."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tongshi.gateways.signalling.ports import Wanted
from tongshi.gateways.signalling.upward_answers import own_item
from tongshi.gateways.signalling.upward_catalogue import UpwardCatalogue
from tongshi.protocols.gb28181.items import render_item
from tongshi.protocols.gb28181.query import CatalogQuery
from tongshi.protocols.gb28181.types import CatalogItem

OWN, LOWER = "31000000002000000001", "31010400002000000001"
GROUP, TOP, NESTED = "31010400002150000001", "31010400002160000001", "31010400002160000002"
CAMERA, OTHER = "31010400001320000001", "31010500001320000002"
NODES = (
    CatalogItem(device_id=LOWER, name="徐汇区平台", parent_ids=(OWN,)),
    CatalogItem(device_id="3101", name="市辖区"),
    CatalogItem(device_id="310104", name="徐汇区"),
    CatalogItem(device_id=GROUP, name="治安", civil_code="310104", parent_ids=(LOWER,)),
    CatalogItem(device_id=TOP, name="东区", business_group_id=GROUP),
    CatalogItem(device_id=NESTED, name="东区一组", parent_ids=(TOP,), business_group_id=GROUP),
)
CAMERAS = (
    CatalogItem(device_id=CAMERA, name="路口", civil_code="310104", parent_ids=(LOWER, NESTED)),
    CatalogItem(device_id=OTHER, name="他处", civil_code="310105", parent_ids=(OWN,)),
)


class Shared:
    """What the upper may see."""

    async def shared_codes(self, upper_id: str, wanted: Wanted) -> tuple[tuple[str, ...], bool]:
        told = tuple(
            camera.device_id
            for camera in CAMERAS
            if camera.civil_code.startswith(wanted.division)
            and (not wanted.below or not wanted.below.isdisjoint((camera.device_id, *camera.parent_ids)))
        )
        return told, bool(told)

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        return NODES


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (OWN, [OWN, LOWER, "3101", "310104", GROUP, TOP, NESTED, CAMERA, OTHER]),
        (LOWER, [LOWER, GROUP, TOP, NESTED, CAMERA]),
        ("310104", ["310104", CAMERA]),
        ("31", ["3101", "310104", CAMERA, OTHER]),
        (GROUP, [GROUP, TOP, NESTED, CAMERA]),
        (TOP, [TOP, NESTED, CAMERA]),
        (NESTED, [NESTED, CAMERA]),
        (CAMERA, [CAMERA]),
        ("31010400002160000404", []),
    ],
)
async def test_a_query_by_an_id_returns_it_and_what_hangs_below(asked: str, told: list[str]) -> None:
    archive: Any = Shared()
    catalogue = UpwardCatalogue(own_item(OWN, "市级平台", "31"), None, archive)  # type: ignore[arg-type]
    upper: Any = SimpleNamespace(id="31000000002000000009")
    chosen = await catalogue.choose(upper, CatalogQuery(1, asked))
    assert [*(node.device_id for node in chosen.nodes), *chosen.codes] == told
    assert chosen.is_known is bool(told)


def test_nodes_are_written_with_the_fields_of_annex_j_and_no_others() -> None:
    assert render_item(NODES[1]) == "<Item><DeviceID>3101</DeviceID><Name>市辖区</Name></Item>"
    group, top, nested = (render_item(node) for node in NODES[3:])
    assert f"<ParentID>{LOWER}</ParentID>" in group
    assert "<CivilCode>310104</CivilCode>" in group
    assert "ParentID" not in top
    assert f"<BusinessGroupID>{GROUP}</BusinessGroupID>" in top
    assert f"<ParentID>{TOP}</ParentID>" in nested
    assert not any(name in top + group for name in ("RegisterWay", "Secrecy", "Status", "Manufacturer"))
