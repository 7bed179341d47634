"""Files from strangers: any bytes are rows or a refusal; any archive survives every form."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.errors import Unprocessable
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.model import DeviceArchive, digest
from tongshi.resources.files.csv_rows import CsvWriter
from tongshi.resources.files.model import Format
from tongshi.resources.files.package import open_package
from tongshi.resources.files.parquet_writer import ParquetWriter
from tongshi.resources.files.rows import read_rows, sniff
from tongshi.resources.files.table import cells
from tongshi.resources.files.xlsx_writer import XlsxWriter

TEXT = st.text(
    st.characters(
        exclude_categories=["Cs"],
        exclude_characters=[chr(n) for n in range(32) if n not in (9, 10, 13)],
    ),
    max_size=40,
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)
PARTS = ("xl/workbook.xml", "xl/worksheets/a.xml", "xl/sharedStrings.xml")
HEAD = b"DeviceID,Name,Longitude\n"


def read(data: bytes) -> None:
    """Read bytes as an upload would be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(data)
        try:
            form = sniff(path)
            if form is None:
                open_package(path, path.with_suffix(".data"))
                return
            for row in read_rows(path, form):
                assert (row.archive is None) != (row.error is None)
        except Unprocessable:
            return


def made(name: str, address: str, angle: float, number: int, last: int = 0) -> DeviceArchive:
    """An archive with these values."""
    item = CatalogItem(
        device_id=f"3101040000131000000{last}",
        name=name,
        address=address,
        horizontal_field_angle=angle,
        room_type=number,
    )
    return DeviceArchive(item=item, owner="31010400002000000001")


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_a_refusal(data: bytes) -> None:
    read(data)
    read(HEAD + data)
    read(b'{"DeviceID":"1"}\n' + data)


@given(st.binary(max_size=300), st.integers(0, 2_000), st.integers(1, 50))
def test_a_damaged_workbook_is_rows_or_a_refusal(noise: bytes, place: int, cut: int) -> None:
    stream = io.BytesIO()
    writer = XlsxWriter(stream)
    writer.add([cells(DeviceArchive(item=CatalogItem(device_id="1", name="x"), owner="2" * 20))])
    writer.close()
    data = stream.getvalue()
    place %= len(data)
    read(data[:place] + noise + data[place + cut :])


@given(
    st.text(max_size=300), st.sampled_from(["xl/workbook.xml", "xl/worksheets/a.xml", "xl/sharedStrings.xml"])
)
def test_any_part_of_a_workbook_may_be_rubbish(text: str, member: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        parts = {
            "xl/workbook.xml": '<workbook><sheet name="a" r:id="r1"/></workbook>',
            "xl/_rels/workbook.xml.rels": '<R><Relationship Id="r1" Target="worksheets/a.xml"/></R>',
            "xl/worksheets/a.xml": "<w><row><c t='str'><v>DeviceID</v></c></row></w>",
            "xl/sharedStrings.xml": "<sst/>",
            member: text.encode("utf-8", "replace").decode(),
        }
        for name, body in parts.items():
            made.writestr(name, body)
    read(stream.getvalue())


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, NUMBER, st.integers(-(2**53), 2**53)), min_size=1, max_size=4))
def test_any_archive_survives_parquet(drawn: list[tuple[str, str, float, int]]) -> None:
    rows = [made(*values, last=last) for last, values in enumerate(drawn)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            writer = ParquetWriter(file, row_group=2)
            writer.add([cells(archive) for archive in rows])
            writer.close()
        found = list(read_rows(path, Format.PARQUET))
    assert [row.archive and digest(row.archive) for row in found] == [digest(row) for row in rows]


@settings(max_examples=50)
@given(TEXT, TEXT, NUMBER, st.integers(-(2**53), 2**53))
def test_any_archive_survives_every_form(name: str, address: str, angle: float, number: int) -> None:
    archive = made(name, address, angle, number)
    for form in (Format.CSV, Format.XLSX):
        stream = io.BytesIO()
        writer = CsvWriter(stream) if form is Format.CSV else XlsxWriter(stream)
        writer.add([cells(archive)])
        writer.close()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(stream.getvalue())
            (row,) = read_rows(path, form)
        assert row.archive is not None, row.error
        assert digest(row.archive) == digest(archive)
