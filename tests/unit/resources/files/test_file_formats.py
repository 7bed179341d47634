"""Every form gives back what was written; hostile files are refused with the place."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tongshi.errors import Unprocessable
from tongshi.protocols.gb28181.types import ITEM_FIELDS, CatalogItem
from tongshi.resources.devices import wire
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, digest
from tongshi.resources.files.model import Format, ReadRow
from tongshi.resources.files.package import Key, Origin, PackageWriter, open_package
from tongshi.resources.files.rows import estimate, read_rows, sniff
from tongshi.resources.files.table import COLUMNS, cells
from tongshi.resources.files.xlsx_reader import Strings
from tongshi.resources.files.xlsx_writer import XlsxWriter, column_letters

OWNER = "31010400002000000001"
AT = datetime(2026, 1, 1, 8, 30, tzinfo=UTC)
KEY = Key("city", "secret of the city")
ORIGIN = Origin(OWNER, "feed", 7, AT, ("G1",))
FORMS = tuple(Format)
ODD_NAMES = (
    "外滩“观景台”, 一号",
    "=1+1",
    "'=1+1",
    "''@x",
    "-",
    "+86 21",
    " 前后空格 ",
    "两\n行\r\n",
    "_x0041_ & <b>",
    "😀",
    "@SUM(A1)",
    "\t制表",
    "0012",
)


def archives() -> list[DeviceArchive]:
    first = CatalogItem(
        device_id="31010400001310000001",
        name="全",
        civil_code="31010401",
        parental=0,
        parent_ids=(OWNER, "31010400002160000001"),
        register_way=2,
        port=5060,
        longitude=121.49056789012345,
        latitude=-31.000000000000004,
        ptz_type=1,
        resolutions=("5", "6"),
        horizontal_field_angle=58.3,
        max_view_distance=120.0,
        install_time="2024-01-02T03:04:05",
    )
    ext = ExtendedAttributes(
        is_controllable=False,
        keyboard_number="01234567",
        has_positioning_module=True,
        is_networked=True,
        industries=("公安", "交通"),
    )
    made = [DeviceArchive(item=first, owner=OWNER, ext=ext, revision=3, updated_at=AT, online=True)]
    for number, name in enumerate(ODD_NAMES, start=2):
        item = CatalogItem(device_id=f"3101040000131{number:07}", name=name, civil_code="310104")
        made.append(DeviceArchive(item=item, owner=OWNER, revision=1, updated_at=AT))
    return made


def package(folder: Path, form: Format, rows: list[DeviceArchive]) -> Path:
    path = folder / "package.zip"
    writer = PackageWriter(path, form)
    writer.add(rows)
    writer.close(ORIGIN, frozenset({OWNER}), KEY)
    return path


def read(folder: Path, data: bytes, form: Format) -> list[ReadRow]:
    path = folder / "upload"
    path.write_bytes(data)
    return list(read_rows(path, form))


def workbook(sheet: str, strings: str = "", workbook_xml: str | None = None) -> bytes:
    """A workbook as office programs write it: prefixes, a table of strings, a relation from the root."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(
            "xl/workbook.xml",
            workbook_xml
            or f'<x:workbook xmlns:x="m" xmlns:rel="{office}"><x:sheets>'
            '<x:sheet name="点位" sheetId="1" rel:id="rId7"/></x:sheets></x:workbook>',
        )
        made.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships><Relationship Id="rId7" Target="/xl/worksheets/a.xml"/></Relationships>',
        )
        made.writestr("xl/worksheets/a.xml", f"<worksheet><sheetData>{sheet}</sheetData></worksheet>")
        if strings:
            made.writestr("xl/sharedStrings.xml", f"<sst>{strings}</sst>")
    return stream.getvalue()


HEAD = '<row r="1"><c r="A1" t="str"><v>DeviceID</v></c><c r="B1" t="s"><v>0</v></c></row>'
STRINGS = "<si><r><t>Na</t></r><r><t>me</t></r><rPh><t>ming</t></rPh></si><si><t>路口</t></si>"


@pytest.mark.parametrize("form", FORMS)
def test_a_package_gives_back_what_was_written(tmp_path: Path, form: Format) -> None:
    rows = archives()
    path = package(tmp_path, form, rows)
    assert sniff(path) is None
    opened = open_package(path, tmp_path / "data")
    found = [row.archive for row in read_rows(opened.data, opened.manifest.format)]
    assert [a and a.item.name for a in found] == [a.item.name for a in rows]
    for archive, again in zip(rows, found, strict=True):
        assert again is not None
        assert digest(again) == digest(archive)
        assert (again.revision, again.online, again.updated_at) == (archive.revision, archive.online, AT)
    assert opened.manifest.count == len(rows)
    assert opened.manifest.owners[0].is_complete
    assert sniff(opened.data) is form


@pytest.mark.parametrize("form", FORMS)
def test_a_signature_holds_for_its_key_only(tmp_path: Path, form: Format) -> None:
    opened = open_package(package(tmp_path, form, archives()), tmp_path / "data")
    assert opened.is_signed_with(KEY)
    assert not opened.is_signed_with(Key("city", "another secret"))
    assert not opened.is_signed_with(Key("other", KEY.secret))


def test_a_package_whose_data_was_changed_is_refused(tmp_path: Path) -> None:
    path = package(tmp_path, Format.CSV, archives())
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["devices.csv"] = parts["devices.csv"].replace("全".encode(), "半".encode())
    with zipfile.ZipFile(path, "w") as new:
        for name, body in parts.items():
            new.writestr(name, body)
    with pytest.raises(Unprocessable) as refused:
        open_package(path, tmp_path / "data")
    assert refused.value.details["rule"] == "digest"


def test_a_full_sheet_is_followed_by_another(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = XlsxWriter(stream, max_sheet_rows=3)
    writer.add([cells(archive) for archive in archives()[:5]])
    writer.close()
    found = read(tmp_path, stream.getvalue(), Format.XLSX)
    assert [(row.sheet, row.number) for row in found] == [
        ("设备1", 2),
        ("设备1", 3),
        ("设备2", 2),
        ("设备2", 3),
        ("设备3", 2),
    ]


def test_columns_of_a_sheet_are_lettered() -> None:
    assert [column_letters(index) for index in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]


def test_csv_neutralises_what_a_spreadsheet_would_run(tmp_path: Path) -> None:
    opened = open_package(package(tmp_path, Format.CSV, archives()), tmp_path / "data")
    raw = opened.data.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfDeviceID,")
    assert b",=1+1," not in raw
    assert b",'=1+1," in raw


def test_csv_names_row_and_column_of_a_fault(tmp_path: Path) -> None:
    text = "DeviceID,Name,Longitude,LWSX\n1,好,121.5,0\n2,=cmd(),1,0\n3,x,east,0\n4,x,1,2\n5,x,181,\n,x,,\n"
    found = read(tmp_path, text.encode(), Format.CSV)
    faults = [(row.number, row.error.column, row.error.rule) for row in found if row.error]
    assert faults == [
        (3, "Name", "formula"),
        (4, "Longitude", "archive"),
        (5, "LWSX", "archive"),
        (6, "Longitude", "archive"),
        (7, "DeviceID", "archive"),
    ]
    assert found[0].archive is not None
    assert found[0].archive.ext.is_networked is True


def test_csv_in_gb_18030_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, "DeviceID,Name\n1,漕河泾\n".encode("gb18030"), Format.CSV)
    assert found[0].archive is not None
    assert found[0].archive.item.name == "漕河泾"


def test_a_wrong_header_says_what_it_should_be_and_bytes_that_they_are_no_table(tmp_path: Path) -> None:
    for data, words in (
        (b"DeviceID,foo\n1,x", "不认识的列“foo”；列名须为"),
        (b"\x01\x02\n1", "文件不是表格"),
    ):
        with pytest.raises(Unprocessable) as refused:
            read(tmp_path, data, Format.CSV)
        assert words in refused.value.message


@pytest.mark.parametrize("header", ["Name\nx", "DeviceID,Nmae\n1,x", "DeviceID,Name,Name\n1,x,y", ""])
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        read(tmp_path, header.encode(), Format.CSV)
    assert refused.value.details["rule"] == "header"


def test_a_workbook_of_another_program_is_read(tmp_path: Path) -> None:
    row = (
        '<row r="3"><c r="A3" t="inlineStr"><is><t>31010400001310000001</t></is></c>'
        '<c r="B3" t="s"><v>1</v></c></row>'
    )
    (found,) = read(tmp_path, workbook(HEAD + row, STRINGS), Format.XLSX)
    assert (found.sheet, found.number) == ("点位", 3)
    assert found.archive is not None
    assert found.archive.item.name == "路口"


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ('<c r="A2"><v>3.10104000013100000e19</v></c>', "text"),
        ('<c r="A2" t="str"><f>1+1</f><v>2</v></c>', "formula"),
        ('<c r="A2" t="e"><v>#REF!</v></c>', "cell"),
        ('<c r="A2" t="s"><v>99</v></c>', "cell"),
        (f'<c r="A2" t="str"><v>{"x" * 40_000}</v></c>', "long"),
        ('<c r="A2" t="str"><v>1</v></c><c r="ZZ2"><v>1</v></c>', "columns"),
    ],
)
def test_a_bad_cell_is_named_and_the_next_row_gets_in(tmp_path: Path, cell: str, rule: str) -> None:
    good = '<row r="5"><c r="A5" t="str"><v>5</v></c></row>'
    found = read(tmp_path, workbook(f'{HEAD}<row r="2">{cell}</row>{good}', STRINGS), Format.XLSX)
    assert found[0].error is not None
    assert (found[0].error.row, found[0].error.rule) == (2, rule)
    assert found[1].archive is not None


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04 and nothing",
        workbook("<row><c"),
        workbook("", workbook_xml="<a/>"),
        workbook(HEAD, STRINGS, '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'),
    ],
)
def test_a_broken_workbook_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unprocessable):
        read(tmp_path, data, Format.XLSX)


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tongshi.resources.files.xlsx_reader.MAX_INFLATED_BYTES", 100_000)
    bomb = workbook(HEAD + " " * 1_000_000, STRINGS)
    assert len(bomb) < 5_000
    with pytest.raises(Unprocessable) as refused:
        read(tmp_path, bomb, Format.XLSX)
    assert refused.value.details["rule"] == "zip-bomb"


def test_ndjson_names_the_line_and_the_field(tmp_path: Path) -> None:
    lines = [
        msgspec.json.encode({"DeviceID": "1", "Name": "x"}),
        b'{"DeviceID": "2", "Info": {"PTZType": "many"}}',
        b"not json",
        b'{"DeviceID": "4"}',
    ]
    found = read(tmp_path, b"\n".join(lines), Format.NDJSON)
    assert [row.number for row in found if row.archive] == [1, 4]
    faults = [row.error for row in found if row.error]
    assert [(fault.row, fault.column, fault.device_id) for fault in faults] == [
        (2, "PTZType", "2"),
        (3, "", ""),
    ]


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    (found,) = read(tmp_path, b"DeviceID,MaxViewDistance\n1,nan\n", Format.CSV)
    assert found.error is not None
    assert found.error.column == "MaxViewDistance"


def test_columns_are_the_identifiers_of_the_standards() -> None:
    assert {"DeviceID", "PTZType", "SFKK", "SSBMHY", "sourcePlatform"} <= set(COLUMNS)
    assert len(cells(replace(archives()[0], online=False))) == len(COLUMNS)


def test_texts_of_a_workbook_lie_on_disk(tmp_path: Path) -> None:
    strings = Strings()
    assert len(strings) == 0
    texts = ["", "路口", "\ud800", "x" * 100_000, "末"]
    for text in texts:
        strings.append(text)
    assert [strings[number] for number in range(len(strings))] == texts
    strings.close()


def test_a_table_of_empty_texts_is_one_too() -> None:
    strings = Strings()
    strings.append("")
    assert (len(strings), strings[0]) == (1, "")
    strings.close()


@pytest.mark.parametrize("form", FORMS)
def test_about_how_many_rows_a_bare_file_has(tmp_path: Path, form: Format) -> None:
    rows = archives() * 20
    opened = open_package(package(tmp_path, form, rows), tmp_path / "data")
    assert estimate(opened.data, form) == pytest.approx(len(rows), rel=0.25)


def test_of_a_broken_file_no_number_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"PAR1 broken")
    assert estimate(path, Format.PARQUET) == 0
    path.write_bytes(b"PK\x03\x04 broken")
    assert estimate(path, Format.XLSX) == 0


def test_a_ragged_row_is_named_and_a_short_one_is_read(tmp_path: Path) -> None:
    data = f"DeviceID,Name,CivilCode\n{archives()[0].device_id},短\n1,a,b,c\n".encode()
    short, long = read(tmp_path, data, Format.CSV)
    assert short.archive is not None
    assert long.error is not None
    assert (long.error.row, long.error.rule, long.error.message) == (3, "columns", "单元格多于表头")


@pytest.mark.parametrize("online", [None, True, False])
def test_a_row_tells_what_the_nested_form_tells(online: bool | None) -> None:
    for archive in archives():
        full = msgspec.to_builtins(wire.to_full(replace(archive, online=online)))
        told = {**full, **full.get("Info", {}), **full.get("ext", {})}
        row = dict(zip(COLUMNS, cells(replace(archive, online=online)), strict=True))
        assert row.pop("updateTime") == AT.isoformat()
        for name, value in row.items():
            if value is not None and name in told:
                assert value == told[name], name
        defaults = ("ParentID", "RegisterWay", "Secrecy", "SafetyWay", "Certifiable", "ErrCode", "Parental")
        assert {name for name, value in row.items() if value is not None} - set(told) <= {*defaults, *_ZEROES}


_ZEROES = {f.wire for f in ITEM_FIELDS if getattr(CatalogItem(device_id=""), f.attribute) == 0}
