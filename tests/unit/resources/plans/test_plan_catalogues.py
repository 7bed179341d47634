"""Table B.1 as data, and where a catalogue may stand."""

from __future__ import annotations

import pytest

from tongshi.errors import InvalidRequest, Unprocessable
from tongshi.resources.plans import standard
from tongshi.resources.plans.catalogues import check_name, check_place, divided
from tongshi.resources.plans.model import Catalogue

BY_ID = {one.id: one for one in standard.catalogues()}
BY_PATH = {one.path: one for one in BY_ID.values()}


def test_the_81_rows_are_numbered_as_printed() -> None:
    assert [row.number for row in standard.ROWS] == list(range(1, 82))
    paths = {row.number: row.path for row in standard.ROWS}
    assert paths[1] == ("交通场所", "机场")
    assert paths[8] == ("交通场所", "新能源站（充电站、充气站）")
    assert paths[24] == ("公共场所", "体育场馆")
    assert paths[53] == ("日常保障", "公共机构")
    assert paths[64] == ("重点学校", "职校")
    assert paths[78] == ("移动设备", "执法记录仪")
    assert [paths[number] for number in range(54, 59)] == [
        ("政务大厅",),
        ("会议中心",),
        ("出入境办证大厅",),
        ("银行",),
        ("企业",),
    ]
    assert [row.number for row in standard.ROWS if row.is_by_division] == [79, 80, 81]


def test_the_key_is_the_path_because_names_repeat() -> None:
    assert len({row.path for row in standard.ROWS}) == 81
    names = [row.path[-1] for row in standard.ROWS]
    assert {name for name in names if names.count(name) > 1} == {"加油站", "广场"}


def test_every_row_has_a_protected_catalogue_with_an_id_of_digits() -> None:
    made = standard.catalogues()
    assert len(BY_ID) == len(BY_PATH) == len(made) == 94
    assert sorted(one.standard_row for one in made if one.standard_row) == list(range(1, 82))
    for one in made:
        assert one.id.isdigit()
        assert one.is_protected
        assert one.parent_id == "" or BY_ID[one.parent_id].path == one.path[:-1]
        assert (one.standard_row is None) is (len(one.path) == 1 and one.name in standard.CLOSED)


def test_a_division_is_made_from_its_code_after_the_one_above() -> None:
    area = BY_PATH[("居民小区",)]
    assert [one.path for one in divided(area, "310104")] == [("居民小区", "徐汇区")]
    street = divided(area, "310101002")
    assert [one.path for one in street] == [
        ("居民小区", "黄浦区"),
        ("居民小区", "黄浦区", "南京东路街道"),
    ]
    assert street[1].parent_id == street[0].id
    assert divided(street[0], "310101002")[-1] == street[1]
    assert divided(street[0], "310104003") == []
    with pytest.raises(Unprocessable) as caught:
        divided(area, "310199")
    assert caught.value.code == 42201


@pytest.mark.parametrize("name", ["310104", "徐汇区", "广场"])
def test_only_rows_79_to_81_are_divided(name: str) -> None:
    assert divided(BY_PATH[("公共场所",)], name) == []
    assert divided(BY_PATH[("银行",)], name) == []


@pytest.mark.parametrize(
    ("parent", "is_open"),
    [
        (None, False),
        (("公共场所",), False),
        (("居民小区",), False),
        (("银行",), True),
        (("公共场所", "广场"), True),
    ],
)
def test_the_first_two_levels_are_the_standards(parent: tuple[str, ...] | None, is_open: bool) -> None:
    place = BY_PATH[parent] if parent else None
    check_place(place, "人民广场", may_extend=True)
    if is_open:
        check_place(place, "人民广场", may_extend=False)
        return
    with pytest.raises(Unprocessable) as caught:
        check_place(place, "人民广场", may_extend=False)
    assert caught.value.code == 42201


def test_there_is_no_fourth_level_and_no_empty_name() -> None:
    with pytest.raises(InvalidRequest):
        check_place(Catalogue("1", "", ("甲", "乙", "丙")), "丁", may_extend=True)
    for name in ("", "  ", "a/b", "长" * 65, "a\nb"):
        with pytest.raises(InvalidRequest):
            check_name(name)
    assert check_name(" 人民广场 ") == "人民广场"
