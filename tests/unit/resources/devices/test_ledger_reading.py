"""What the cells of a ledger mean, and what is said of those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.ledger import options, reading, writing
from tongshi.resources.devices.ledger.columns import COLUMNS
from tongshi.resources.devices.ledger.csv_table import parse, render
from tongshi.resources.devices.ledger.model import MAX_FINDINGS, RULES, Cell, Findings, Flags, Kind
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes

ID = "31010400001320000001"
OTHER = "31010400001320000002"
NAMED_BY_THE_STANDARD = "SFKK JPBH DYCCSBIP DYCCSBTD SXJCJYSZP DWMK LWSX SSXQGAJG SSBMHY"
LEDGER = (
    "SBBM SBMC SBCS XZQY JKDWLX SBXH DWSC IPV4 MACDZ SXJLX SXJGNLX BGSX SXJBMGS AZDZ AZGD JD WD KSJL SXJWZLX "
    "JSFW AZSJ GLDW GLDWLXFS LXBCTS SBZT SPFBL SPXHLX JSYYLB SFDWGX SFJRSJPT CSBH CSMC BWLX CRFX"
)


def one(**cells: Cell) -> tuple[dict[str, object], dict[str, object], Findings]:
    findings = Findings()
    (row,) = reading.read([{"SBBM": ID, **cells}], findings)
    return row.item, row.ext, findings


def test_the_table_has_every_column_of_the_ledger_and_of_table_a1() -> None:
    assert [column.name for column in COLUMNS] == f"{LEDGER} {NAMED_BY_THE_STANDARD}".split()


@pytest.mark.parametrize(
    ("column", "cell", "attribute", "value", "rule"),
    [
        ("SBMC", " 人民广场 ", "name", "人民广场", ""),
        ("XZQY", 31010415, "civil_code", "31010415", ""),
        ("XZQY", "310104", "civil_code", "310104", "L-18"),
        ("JKDWLX", "1", "point_type", 1, ""),
        ("JKDWLX", "4", "point_type", 9, "L-11"),
        ("SXJLX", "球机", "ptz_type", 1, "L-10"),
        ("SXJLX", "5", "ptz_type", 3, "L-11"),
        ("SXJGNLX", "1/2", "function_types", ("03", "02"), "L-11"),
        ("SXJGNLX", "1/5", "function_types", ("03",), "L-12"),
        ("BGSX", "红外补光", "supply_light_type", 2, "L-10"),
        ("SXJBMGS", "4", "encode_type", "5", "L-11"),
        ("JSFW", 7.0, "direction_type", 7, ""),
        ("AZSJ", 1543593600000, "install_time", "2018-12-01T00:00:00", "L-13"),
        ("AZSJ", "1543593600000", "install_time", "2018-12-01T00:00:00", "L-13"),
        ("AZSJ", "2018/12/1", "install_time", "2018-12-01T00:00:00", "L-13"),
        ("AZSJ", "2018-12-01T08:30:00", "install_time", "2018-12-01T08:30:00", ""),
        ("MACDZ", "00:1a:2B:3c:4D:5e", "mac", "00-1A-2B-3C-4D-5E", ""),
        ("SPFBL", "1080P", "resolutions", ("6",), "L-10"),
        ("SPFBL", "2560*1440", "resolutions", ("2560x1440",), "L-10"),
        ("LXBCTS", "90.0", "record_save_days", 90, ""),
        ("KSJL", "120.5", "max_view_distance", 120.5, ""),
    ],
)
def test_a_cell_of_the_field_is_read(
    column: str, cell: Cell, attribute: str, value: object, rule: str
) -> None:
    item, _, findings = one(**{column: cell})
    assert item[attribute] == value
    assert set(findings.counts) - {"L-19"} == ({rule} if rule else set())


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("XZQY", "徐汇区", "L-18"),
        ("LXBCTS", "很多", "L-04"),
        ("KSJL", "1e5", "L-04"),
        ("SXJLX", "77", "L-09"),
        ("SXJLX", "99", "L-12"),
        ("JSFW", "9", "L-12"),
        ("AZSJ", "去年", "L-14"),
        ("AZSJ", "2018-13-01", "L-14"),
        ("AZSJ", "99999999999999", ""),
        ("IPV4", "10.0.0.256", "L-20"),
        ("MACDZ", "00-1A", "L-20"),
        ("JPBH", "1234567", "L-15"),
        ("SSXQGAJG", "310104", "L-09"),
        ("DYCCSBIP", "x" * 31, "L-22"),
        ("SFKK", "3", "L-06"),
        ("SBMC", "a\x00b", "L-22"),
        ("SBMC", "x" * 1025, "L-22"),
    ],
)
def test_a_cell_that_means_nothing_costs_the_cell_only(column: str, cell: Cell, rule: str) -> None:
    item, ext, findings = one(SBXH="T1", **{column: cell})
    assert item["model"] == "T1"
    if rule:
        assert set(findings.counts) == {rule}
        assert set(item) == {"model"}
        assert not ext


def test_coordinates_with_twenty_decimals_are_read_and_said_to_be_shortened() -> None:
    item, _, findings = one(JD="121.47370000000000000000", WD="31.23302987654321098765")
    assert (item["longitude"], item["latitude"]) == (121.4737, 31.23302987654321)
    assert [(f.column, f.rule) for f in findings.kept] == [("WD", "L-21")]


@pytest.mark.parametrize(
    ("lon", "lat"), [("121.4", ""), ("0", "0"), ("181", "31"), ("121", "91"), ("", "31")]
)
def test_half_a_place_is_no_place(lon: str, lat: str) -> None:
    item, _, findings = one(JD=lon, WD=lat)
    assert "longitude" not in item
    assert "latitude" not in item
    assert findings.counts["L-05"] == 1


def flags(column: str, cells: list[Cell], how: Flags = "auto") -> tuple[list[object], set[str]]:
    findings = Findings()
    attribute = next(c.attribute for c in COLUMNS if c.name == column)
    rows = [{"SBBM": f"{31010400001320000001 + n}", column: cell} for n, cell in enumerate(cells)]
    read = reading.read(rows, findings, how)
    return [row.ext.get(attribute) for row in read], set(findings.counts)


def test_yes_and_no_are_read_by_the_habit_of_their_column() -> None:
    assert flags("SFKK", ["1", "0", "", "是"]) == ([True, False, None, True], set())
    assert flags("SFKK", [1, 2, "2"]) == ([True, False, False], {"L-07"})
    assert flags("SFKK", ["0", "2"]) == ([None, None], {"L-25"})


def test_networked_is_upside_down_in_0_1_and_upright_in_1_2_and_in_words() -> None:
    assert flags("LWSX", ["0", "1"]) == ([True, False], set())
    assert flags("LWSX", ["1", "2"]) == ([True, False], {"L-07"})
    assert flags("LWSX", ["是", "否"]) == ([True, False], set())
    assert flags("LWSX", ["1", "1"]) == ([False, False], {"L-08"})
    assert flags("LWSX", ["1", "1"], "12") == ([True, True], {"L-07"})


def test_an_eight_digit_keyboard_number_is_kept() -> None:
    assert one(JPBH=17000001)[1]["keyboard_number"] == "17000001"


def test_the_photo_is_found_under_both_spellings() -> None:
    url = "http://10.0.0.1/p.jpg"
    _, ext, findings = one(SXJCJYSZPURL=url)
    assert (ext["scene_photo_url"], set(findings.counts)) == (url, {"L-17"})
    _, ext, findings = one(SXJCJYSZP="short", SXJCJYSZPURL=url)
    assert (ext["scene_photo_url"], set(findings.counts)) == (url, {"L-16"})


@pytest.mark.parametrize(
    ("name", "cell", "attribute", "value"),
    [
        ("IPV4DZ", "10.0.0.1", "ip_address", "10.0.0.1"),
        ("JSFX", "东", "direction_type", 1),
        ("LXHTPBCTS", "30", "record_save_days", 30),
        ("SPTPFBL", "6", "resolutions", ("6",)),
    ],
)
def test_a_later_tables_column_names_are_read(name: str, cell: str, attribute: str, value: object) -> None:
    item, _, findings = one(**{name: cell})
    assert item[attribute] == value
    assert findings.counts["L-17"] == 1
    assert "L-03" not in findings.counts


def test_departments_by_name_become_their_numbers_and_others_stay() -> None:
    _, ext, findings = one(SSBMHY="公安机关、市政市容委/网格办")
    assert (ext["industries"], set(findings.counts)) == (("1", "17", "网格办"), {"L-10"})


def test_a_row_without_an_id_is_refused_and_of_two_rows_the_last_counts() -> None:
    findings = Findings()
    rows: list[dict[str, Cell]] = [
        {"SBBM": ID, "SBMC": "甲"},
        {"SBBM": "3101", "SBMC": "坏"},
        {"SBBM": OTHER, "SBMC": "乙"},
        {"SBBM": ID, "SBMC": "丙"},
    ]
    read = reading.read(rows, findings)
    assert [(row.number, row.item["name"]) for row in read] == [(3, "乙"), (4, "丙")]
    assert [(f.row, f.rule) for f in findings.kept] == [(2, "L-01"), (1, "L-02")]


def test_a_column_without_a_home_is_named_once_with_its_count() -> None:
    findings = Findings()
    reading.read(
        [{"SBBM": ID, "CSBH": "C1", "FOO": "x"}, {"SBBM": OTHER, "CSBH": "C2", "AZGD": ""}], findings
    )
    assert [(f.row, f.column, f.rule, f.read) for f in findings.kept] == [
        (0, "CSBH", "L-03", "2 个值"),
        (0, "FOO", "L-03", "1 个值"),
    ]


def test_a_division_that_differs_from_the_code_is_noted_and_kept() -> None:
    item, _, findings = one(XZQY="31011500")
    assert item["civil_code"] == "31011500"
    assert findings.kept[0].kind is Kind.NOTE


def test_two_labels_of_one_value_are_reported_and_the_usable_rest_is_used() -> None:
    given = [("球机", "1"), ("快球", "1"), ("枪机", "3"), ("枪机", "4"), ("", "2"), ("半球型", "2")]
    findings = Findings()
    labels = options.check("SXJLX", [options.Option(*entry) for entry in given], findings)
    assert labels == {"球机": "1", "快球": "1", "半球型": "2"}
    assert [(f.row, f.rule) for f in findings.kept] == [(2, "L-28"), (4, "L-29"), (5, "L-30")]
    found: list[Any] = reading.read(
        [{"SBBM": ID, "SXJLX": "快球"}], Findings(), "auto", {"SXJLX": [options.Option("快球", "1")]}
    )
    assert found[0].item == {"ptz_type": 1}


def test_our_own_dictionaries_map_no_two_labels_to_one_value() -> None:
    for column, codes in options.CODES.items():
        findings = Findings()
        options.check(column, [options.Option(code.label, code.value) for code in codes], findings)
        assert not findings.counts, column


def test_findings_are_all_counted_and_boundedly_kept() -> None:
    findings = Findings()
    for row in range(MAX_FINDINGS + 5):
        findings.add(row, "SBBM", "L-01", Kind.REFUSED, "x" * 500)
    assert (len(findings.kept), findings.counts["L-01"]) == (MAX_FINDINGS, MAX_FINDINGS + 5)
    assert len(findings.kept[0].read) == 80


FULL = DeviceArchive(
    item=CatalogItem(
        device_id=ID,
        name="人民广场",
        manufacturer="海康",
        model="T1",
        civil_code="31010415",
        address="人民大道",
        ip_address="10.0.0.1",
        longitude=121.4737,
        latitude=31.233,
        ptz_type=3,
        supply_light_type=9,
        direction_type=8,
        resolutions=("6", "1920x1080"),
        point_type=1,
        point_common_name="东门",
        mac="00-1A-2B-3C-4D-5E",
        function_types=("03", "99"),
        encode_type="5",
        install_time="2018-12-01T08:00:00",
        management_unit="某所",
        contact_info="021",
        record_save_days=90,
        max_view_distance=120.5,
    ),
    ext=ExtendedAttributes(
        is_controllable=False,
        keyboard_number="170000001",
        storage_device_ip="10.0.0.9",
        storage_channel="1",
        scene_photo_url="http://10.0.0.9/p.jpg",
        has_positioning_module=True,
        is_networked=True,
        police_jurisdiction="310104620000",
        industries=("1", "17"),
    ),
    owner="31010400002000000001",
)


@pytest.mark.parametrize("how", ["01", "12"])
def test_what_is_exported_is_read_back_the_same(how: Flags) -> None:
    lost, found = Findings(), Findings()
    rows = writing.write([FULL], lost, how)
    (row,) = reading.read(parse(render(writing.NAMES, rows)), found, how)
    assert CatalogItem(device_id=row.device_id, **row.item) == FULL.item  # type: ignore[arg-type]  # by column
    assert ExtendedAttributes(**row.ext) == FULL.ext  # type: ignore[arg-type]  # values are typed by column
    assert not lost.counts
    assert not [f for f in found.kept if f.kind in (Kind.REFUSED, Kind.LOST)]


def test_an_export_says_what_the_ledger_cannot_hold() -> None:
    item = CatalogItem(device_id=ID, ptz_type=7, parent_ids=("1",), room_type=2, function_types=("01", "03"))
    findings = Findings()
    (row,) = writing.write([DeviceArchive(item=item, owner="o")], findings)
    assert (row["SXJLX"], row["SXJGNLX"], row["CSBH"], row["LWSX"]) == ("", "1", "", "")
    assert [(f.row, f.column, f.rule) for f in findings.kept] == [
        (1, "SXJLX", "L-26"),
        (1, "SXJGNLX", "L-26"),
        (0, "ParentID", "L-27"),
        (0, "RoomType", "L-27"),
    ]


def test_every_rule_is_used_by_the_code() -> None:
    from pathlib import Path

    folder = Path(reading.__file__).parent
    text = "".join(path.read_text("utf-8") for path in folder.glob("*.py") if path.name != "model.py")
    assert {rule for rule in RULES if f'"{rule}"' not in text} == set()
