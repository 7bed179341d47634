"""Generated cameras are believable and complete."""

from __future__ import annotations

import random

import pytest

from tongshi.errors import InvalidRequest
from tongshi.testing.shanghai import CITY, DISTRICTS, district, make_item

PARENT = "31010100002000000001"


def test_all_sixteen_districts_have_their_code_and_lie_in_shanghai() -> None:
    assert len({one.civil_code for one in DISTRICTS}) == 16
    for one in DISTRICTS:
        assert 120.8 < one.longitude < 122.1
        assert 30.6 < one.latitude < 31.9


def test_an_item_lies_near_its_district_and_names_its_parent() -> None:
    item = make_item("31011500001320000001", 0, civil_code="310115", parent_id=PARENT, rng=random.Random(1))
    home = district("310115")
    assert abs((item.longitude or 0) - home.longitude) < 0.01
    assert item.parent_ids == (PARENT,)
    assert item.civil_code == "310115"
    assert item.name.startswith("世纪大道")


def test_the_same_seed_gives_the_same_item() -> None:
    def make() -> object:
        rng = random.Random(4)
        return make_item("31010100001320000001", 3, civil_code="31010112", parent_id=PARENT, rng=rng)

    assert make() == make()


def test_mandatory_fields_of_a_camera_are_all_there() -> None:
    item = make_item(
        "31010100001320000001", 0, civil_code="310101", parent_id=PARENT, rng=random.Random(2), codec="h265"
    )
    assert all(
        (item.name, item.manufacturer, item.model, item.civil_code, item.address, item.grassroots_code)
    )
    assert item.encode_type == "5"
    assert item.point_type in (1, 2, 3)
    assert item.install_time
    assert item.contact_info
    assert item.record_save_days


def test_an_unknown_district_of_the_city_is_the_city_and_another_city_is_refused() -> None:
    assert district("310000") is CITY
    with pytest.raises(InvalidRequest):
        district("110101")
