"""Recordings on the wire: files read and cut into parts, answers collected, overlaps and silences."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.clock import BEIJING
from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import records
from tongshi.protocols.gb28181.codec import decode
from tongshi.protocols.gb28181.items import BadItem
from tongshi.protocols.gb28181.records import (
    RecordCollector,
    RecordFile,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordType,
    paginate_records,
)
from tongshi.protocols.gb28181.version import Edition

DATA = Path(__file__).parents[3] / "data" / "gb28181"
CAMERA = "34020000001320000002"
NVR = "34020000001180000001"
DAY = datetime(2024, 5, 19, tzinfo=BEIJING)


def file(number: int, **changes: object) -> RecordFile:
    start = DAY + timedelta(minutes=10 * number)
    return RecordFile(
        **{
            "device_id": CAMERA,
            "name": "东门",
            "start": start,
            "end": start + timedelta(minutes=9),
            **changes,
        }  # type: ignore[arg-type]
    )


def part(sn: int, sum_num: int, *files: RecordFile, bad: int = 0) -> RecordInfoResponse:
    return RecordInfoResponse(sn, CAMERA, "", sum_num, files, tuple(BadItem(0, "", "") for _ in range(bad)))


def packed(data: bytes) -> str:
    return "".join(data.decode("gb18030").split())


def test_the_query_is_read_and_written_as_the_standard_shows_it() -> None:
    body = (DATA / "record_info_query.xml").read_bytes()
    query = RecordInfoQuery(
        17430, CAMERA, DAY, DAY + timedelta(hours=23, minutes=59, seconds=59), stream_number=0
    )
    assert decode(body) == query
    assert packed(query.render()) == packed(body)
    old = query.render("gb2312", Edition.GB2016)
    assert b"StreamNumber" not in old
    assert b"<Type>all</Type>" in old


def test_the_answer_is_read_and_written_as_the_standard_shows_it() -> None:
    body = (DATA / "record_info_response.xml").read_bytes()
    answer = decode(body)
    assert isinstance(answer, RecordInfoResponse)
    first, second = answer.files
    assert (first.file_size, first.location, first.stream_number) == (901775360, NVR, 0)
    assert (second.kind, second.file_size, second.location) == (RecordType.ALARM, None, "")
    assert second.start == DAY + timedelta(hours=10, minutes=12, seconds=5)
    assert packed(answer.render()) == packed(body)


def test_odd_items_are_read_and_those_without_a_place_in_time_are_named() -> None:
    answer = decode((DATA / "quirk_50_record_items.xml").read_bytes())
    assert isinstance(answer, RecordInfoResponse)
    assert [one.device_id for one in answer.files] == [CAMERA, CAMERA]
    assert [one.kind for one in answer.files] == [RecordType.TIME, RecordType.ALL]
    assert [one.file_size for one in answer.files] == [None, None]
    assert [one.index for one in answer.bad_items] == [2, 3]
    with pytest.raises(RemoteViolation):
        decode((DATA / "bad_record_query_without_time.xml").read_bytes())


def test_an_answer_is_complete_by_its_distinct_files() -> None:
    collector = RecordCollector(70_000, CAMERA, 0.0, idle_s=5, total_s=60)
    assert collector.add(part(70_000, 3, file(1), file(2)), 1.0)
    assert collector.add(part(70_000 & 0xFFFF, 3, file(2)), 2.0)  # cut to 16 bits, and told twice
    assert collector.state == "collecting"
    assert not collector.add(part(8, 3, file(3)), 2.0)
    assert collector.add(part(70_000, 3, file(3)), 3.0)
    assert (collector.state, len(collector.files)) == ("complete", 3)
    assert not collector.add(part(70_000, 3, file(4)), 4.0)


def test_silence_after_some_parts_leaves_an_incomplete_answer() -> None:
    collector = RecordCollector(7, CAMERA, 0.0, idle_s=5, total_s=60)
    collector.add(part(7, 9, file(1)), 4.0)
    collector.handle_timer(8.0)
    assert collector.state == "collecting"
    assert collector.next_timer() == 9.0
    collector.handle_timer(9.0)
    assert (collector.state, len(collector.files), collector.is_answered) == ("incomplete", 1, True)


def test_nothing_found_is_complete_and_no_answer_is_told_apart() -> None:
    silent = RecordCollector(7, CAMERA, 0.0, idle_s=5, total_s=60)
    silent.handle_timer(5.0)
    assert (silent.state, silent.is_answered) == ("incomplete", False)
    empty = RecordCollector(7, CAMERA, 0.0, idle_s=5, total_s=60)
    assert not empty.add(part(0, 0), 1.0)
    assert empty.add(part(0, 0), 1.0, is_only_query=True)
    assert (empty.state, empty.is_answered) == ("complete", True)


def test_an_item_that_cannot_be_read_ends_the_answer_and_shows() -> None:
    collector = RecordCollector(7, CAMERA, 0.0, idle_s=5, total_s=60)
    collector.add(part(7, 2, file(1), bad=1), 1.0)
    assert (collector.state, collector.bad_count) == ("incomplete", 1)


def test_a_flood_of_files_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_FILES", 3)
    collector = RecordCollector(7, CAMERA, 0.0, idle_s=5, total_s=60)
    collector.add(part(7, 9, *(file(number) for number in range(9))), 1.0)
    assert (collector.state, len(collector.files)) == ("incomplete", 3)


def test_an_answer_is_cut_into_parts_that_fit_and_add_up() -> None:
    files = [file(number, file_path=f"/hdd/{number}.ps") for number in range(40)]
    parts = list(paginate_records(files, 5, CAMERA, "东门", max_bytes=800))
    assert {one.sum_num for one in parts} == {40}
    assert [one for each in parts for one in each.files] == files
    assert all(len(one.render()) <= 800 for one in parts)
    (empty,) = paginate_records([], 5, CAMERA, "", max_bytes=800)
    assert b"RecordList" not in empty.render()


def test_the_kind_of_a_recording_has_a_word_and_a_number() -> None:
    assert [kind.uri_code for kind in RecordType] == [0, 3, 2, 1]
    assert all(RecordType.of_uri(f"{CAMERA}:{kind.uri_code}") is kind for kind in RecordType)
    assert RecordType.of_uri("http://1/2.ps") is RecordType.ALL


FILES = st.builds(
    file,
    st.integers(0, 100),
    name=st.text("东门<&>abc", max_size=8),
    file_path=st.sampled_from(["", "/a b/1.ps"]),
    kind=st.sampled_from([RecordType.TIME, RecordType.ALARM, RecordType.MANUAL]),
    file_size=st.none() | st.integers(1, 10**14),
    location=st.sampled_from(["", NVR]),
    stream_number=st.none() | st.integers(0, 9),
)


@given(st.integers(1, 2**31 - 1), st.lists(FILES, max_size=4).map(tuple))
@settings(max_examples=100, deadline=None)
def test_an_answer_survives_the_wire(sn: int, files: tuple[RecordFile, ...]) -> None:
    answer = RecordInfoResponse(sn, CAMERA, "名", len(files), files)
    assert decode(answer.render()) == answer
