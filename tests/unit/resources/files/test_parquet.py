"""Parquet: what was written comes back, and a hostile file ends in a clear refusal within bounded memory."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tongshi.errors import Unprocessable
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices.model import DeviceArchive
from tongshi.resources.files import parquet_child, parquet_reader, parquet_writer
from tongshi.resources.files.model import Format, ReadRow
from tongshi.resources.files.parquet_writer import ParquetWriter
from tongshi.resources.files.rows import read_rows, sniff
from tongshi.resources.files.table import COLUMNS, cells

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

OWNER = "31010400002000000001"
ID = "31010400001310000001"
MUTATIONS = 16


def archive(number: int) -> DeviceArchive:
    item = CatalogItem(device_id=f"3101040000131{number:07}", name=f"路口{number}", longitude=121.4)
    return DeviceArchive(item=item, owner=OWNER)


def written(path: Path, count: int, row_group: int = 3) -> bytes:
    with path.open("wb") as file:
        writer = ParquetWriter(file, row_group)
        for number in range(1, count + 1, 2):
            writer.add([cells(archive(n)) for n in range(number, min(number + 2, count + 1))])
        writer.close()
    return path.read_bytes()


def foreign(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    """A file as another program writes it."""
    parquet.write_table(arrow.table(columns), path, **options)
    return path


def read(path: Path) -> list[ReadRow]:
    return list(read_rows(path, Format.PARQUET))


def rule_of(path: Path) -> str:
    with pytest.raises(Unprocessable) as refused:
        read(path)
    assert refused.value.message
    return str(refused.value.details["rule"])


def test_rows_go_out_in_row_groups_and_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    written(path, 11)
    metadata = parquet.read_metadata(path)
    assert (metadata.num_rows, metadata.num_row_groups) == (11, 3)
    assert parquet.read_schema(path).names == list(COLUMNS)
    found = read(path)
    assert [row.number for row in found] == list(range(1, 12))
    assert [row.archive and row.archive.item.name for row in found] == [f"路口{n}" for n in range(1, 12)]
    assert sniff(path) is Format.PARQUET


def test_no_row_at_all_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    written(path, 0)
    assert read(path) == []


def test_without_the_library_the_refusal_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    written(path, 1)
    monkeypatch.setattr(parquet_reader, "is_installed", lambda: False)
    with pytest.raises(Unprocessable) as refused:
        read(path)
    assert refused.value.code == 42203
    assert "requirements/parquet.txt" in refused.value.message
    assert refused.value.details["supported"] == ["ndjson", "csv", "xlsx"]


def test_another_programs_types_are_read(tmp_path: Path) -> None:
    columns = {
        "DeviceID": arrow.array([ID, "31010400001310000002"]).dictionary_encode(),
        "Name": arrow.array(["甲", None], arrow.large_string()),
        "CivilCode": arrow.array([310104, 31010401], arrow.int32()),
        "Longitude": arrow.array(["121.5", " 121.25 "]),
        "Latitude": arrow.array([31, None], arrow.int8()),
        "InstallTime": arrow.array([1_700_000_000_000, None], arrow.timestamp("ms")),
        "Address": arrow.nulls(2),
    }
    first, second = read(foreign(tmp_path / "rows", columns))
    assert first.archive is not None, first.error
    assert second.archive is not None, second.error
    assert first.archive.item.civil_code == "310104"
    assert (first.archive.item.longitude, second.archive.item.longitude) == (121.5, 121.25)
    assert first.archive.item.latitude == 31
    assert first.archive.item.install_time == "2023-11-14T22:13:20"
    assert second.archive.item.name == ""


@pytest.mark.parametrize(
    ("column", "value", "rule", "words"),
    [
        ("Longitude", "东经", "archive", "Longitude"),
        ("Name", 0.5, "text", "Name"),
        ("CivilCode", 3.1e19, "text", "已失去精度"),
        ("Name", "长" * 20_000, "long", "过长"),
    ],
)
def test_a_cell_that_holds_no_value_is_named_and_the_next_row_gets_in(
    tmp_path: Path, column: str, value: object, rule: str, words: str
) -> None:
    columns = {"DeviceID": [ID, "31010400001310000002"], column: [value, None]}
    first, second = read(foreign(tmp_path / "rows", columns))
    assert first.error is not None
    assert (first.error.row, first.error.column, first.error.rule) == (1, column, rule)
    assert words in first.error.message
    assert second.archive is not None


def test_text_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    raw = arrow.array([b"\xff\xfe", b"ok"], arrow.binary())
    broken = arrow.Array.from_buffers(arrow.string(), 2, raw.buffers())
    first, second = read(foreign(tmp_path / "rows", {"DeviceID": [ID, ID], "Name": broken}))
    assert first.error is not None
    assert first.error.rule == "encoding"
    assert second.archive is not None


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"Name": ["a"]}, "header"),
        ({"DeviceID": [ID], "设备名称": ["a"]}, "header"),
        ({"DeviceID": [ID], "Name": [["a", "b"]]}, "type"),
        ({"DeviceID": [ID], "Name": [{"a": {"b": 1}}]}, "type"),
        ({"DeviceID": [b"1"]}, "type"),
        ({"DeviceID": [ID], **{f"c{n}": [1] for n in range(300)}}, "columns"),
    ],
)
def test_a_schema_that_is_not_ours_is_refused(tmp_path: Path, columns: dict[str, Any], rule: str) -> None:
    assert rule_of(foreign(tmp_path / "rows", columns)) == rule


def test_more_rows_or_row_groups_than_the_bound_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = foreign(tmp_path / "rows", {"DeviceID": [ID] * 50}, row_group_size=1)
    with pytest.raises(parquet_child.Bad, match="超过 49 行"):
        list(parquet_child.read(many, 49, 1 << 30))
    monkeypatch.setattr(parquet_child, "MAX_ROW_GROUPS", 49)
    with pytest.raises(parquet_child.Bad, match="行组多于"):
        list(parquet_child.read(many, 100, 1 << 30))
    with pytest.raises(parquet_child.Bad, match="解压后过大"):
        list(parquet_child.read(foreign(tmp_path / "few", {"DeviceID": [ID]}), 9, 20))


def test_one_long_cell_that_many_rows_repeat_is_held_once(tmp_path: Path) -> None:
    """A dictionary bomb: 200,000 rows of 30 kB are 6 GB as text and one entry in the file."""
    count = 200_000
    ids = arrow.array([f"3101040000131{n:07}" for n in range(count)])
    same = arrow.DictionaryArray.from_arrays(arrow.nulls(count, arrow.int32()).fill_null(0), ["长" * 10_000])
    path = foreign(tmp_path / "rows", {"DeviceID": ids, "Name": same})
    assert path.stat().st_size < 4_000_000
    frames = parquet_child.read(path, 1_000_000, 1 << 30)
    assert next(frames) == ["head", ["DeviceID", "Name"], count]
    sizes = [len(msgspec.msgpack.encode(frame)) for frame in frames]
    assert len(sizes) == count // parquet_child.BATCH + 1
    assert max(sizes) < 200_000


def test_a_page_that_swells_past_the_memory_ends_the_reading_process_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell of 300 MB in a file of a few kilobytes: less than the footer may promise."""
    path = tmp_path / "rows"
    foreign(path, {"DeviceID": [ID], "Name": ["0" * 300_000_000]}, compression="zstd")
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(parquet_reader, "MAX_MEMORY_BYTES", 600 * 1024 * 1024)
    assert rule_of(path) in ("parquet-bomb", "parquet")


def test_the_footers_promise_is_checked_before_a_page_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    foreign(path, {"DeviceID": [ID, ID], "Name": ["0" * 30_000_000] * 2}, compression="zstd")
    with pytest.raises(parquet_child.Bad, match="解压后过大"):
        list(parquet_child.read(path, 10, 1 << 24))


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _encrypted(data: bytes) -> bytes:
    return data[:-4] + b"PARE"


def _lying_footer(data: bytes) -> bytes:
    return data[:-8] + struct.pack("<I", 0x7FFFFFFF) + b"PAR1"


def _empty_footer(data: bytes) -> bytes:
    return data[:-8] + struct.pack("<I", 0) + b"PAR1"


@pytest.mark.parametrize("damage", [_cut, _encrypted, _lying_footer, _empty_footer])
def test_a_broken_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "rows"
    path.write_bytes(damage(written(path, 20)))
    assert rule_of(path).startswith("parquet")


def test_mutated_files_are_rows_or_a_refusal(tmp_path: Path) -> None:
    """Bytes turned, cut and doubled at any place, more often in the footer; each read by its own process."""
    path = tmp_path / "rows"
    whole = written(path, 40, row_group=20)
    pick = random.Random(28181)
    outcomes = {"rows": 0, "refused": 0}
    for _ in range(MUTATIONS):
        data = bytearray(whole)
        for _ in range(pick.choice((1, 2, 8))):
            first = pick.choice((4, len(data) * 3 // 4))
            place = pick.randrange(first, len(data))
            what = pick.randrange(3)
            if what == 0:
                data[place] ^= 1 << pick.randrange(8)
            elif what == 1:
                del data[place : place + pick.randrange(1, 9)]
            else:
                data[place:place] = data[place : place + pick.randrange(1, 9)]
        path.write_bytes(data)
        try:
            assert all((row.archive is None) != (row.error is None) for row in read(path))
            outcomes["rows"] += 1
        except Unprocessable as refused:
            outcomes["refused"] += bool(refused.details["rule"])
    assert sum(outcomes.values()) == MUTATIONS
    assert outcomes["refused"] > MUTATIONS // 4


def test_a_reader_that_stops_early_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows"
    written(path, 5_000, row_group=5_000)
    begun: list[Any] = []
    real = subprocess.Popen

    def watch(*args: Any, **options: Any) -> Any:
        begun.append(real(*args, **options))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", watch)
    rows = parquet_reader.read_parquet(path)
    next(rows)
    rows.close()  # type: ignore[attr-defined]  # a generator, which its type does not say
    assert begun[0].returncode is not None


def test_the_reading_process_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGSHI_SECRET", "s")
    assert "TONGSHI_SECRET" not in parquet_reader._surroundings()
    assert parquet_writer.is_installed()
