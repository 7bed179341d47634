"""Recordings in order: days, overlaps, gaps, coverage, the nearest, and where a playback stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongshi.clock import BEIJING
from tongshi.errors import InvalidRequest
from tongshi.protocols.gb28181.records import RecordFile
from tongshi.resources.viewing.recordings import (
    MAX_PLAYBACK,
    Found,
    Playhead,
    Window,
    days_of,
    nearest,
    timeline,
)

START = datetime(2026, 5, 19, 0, 0, tzinfo=BEIJING)
CODE = "31010100001320000001"


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def file(start: float, end: float, location: str = CODE, path: str = "") -> RecordFile:
    return RecordFile(device_id=CODE, start=at(start), end=at(end), location=location, file_path=path)


def test_a_window_is_cut_at_beijing_midnights_and_nothing_is_lost() -> None:
    window = Window(at(22).astimezone(UTC), at(50))
    days = days_of(window)
    assert [day.start for day in days] == [at(22), at(24), at(48)]
    assert [day.end for day in days] == [at(24), at(48), at(50)]
    assert days_of(Window(at(1), at(2))) == [Window(at(1), at(2))]


def test_empty_backward_and_overlong_windows_are_refused() -> None:
    for start, end in ((1, 1), (2, 1), (0, 25)):
        with pytest.raises(InvalidRequest) as caught:
            Window(at(start), at(end)).check(MAX_PLAYBACK)
        assert caught.value.code == 40003


def test_overlaps_count_once_and_the_rest_are_gaps() -> None:
    found = Found((file(3, 4), file(1, 2), file(1, 2, path="/copy"), file(1.5, 2.5, "centre"), file(9, 11)))
    known = timeline(Window(at(0), at(10)), found)
    assert [one.start for one in known.files] == [at(1), at(1.5), at(3), at(9)]
    assert known.spans == ((3600.0, 9000.0), (10_800.0, 14_400.0), (32_400.0, 36_000.0))
    assert [(gap.start, gap.end) for gap in known.gaps] == [
        (at(0), at(1)),
        (at(2.5), at(3)),
        (at(4), at(9)),
    ]
    assert known.coverage == pytest.approx(0.35)


def test_files_that_follow_each_other_within_a_second_are_no_gap() -> None:
    second = 1 / 3600
    known = timeline(Window(at(0), at(2)), Found((file(0, 1 - second), file(1, 2 - second))))
    assert known.gaps == ()
    assert len(known.spans) == 1


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_is_recorded_and_what_is_not_make_the_whole(stretches: list[tuple[int, int]]) -> None:
    window = Window(START, START + timedelta(minutes=180))
    files = tuple(
        RecordFile(
            device_id=CODE,
            start=START + timedelta(minutes=begin),
            end=START + timedelta(minutes=begin + length),
        )
        for begin, length in stretches
    )
    known = timeline(window, Found(files))
    gaps_s = sum((gap.end - gap.start).total_seconds() for gap in known.gaps)
    assert known.total_s + gaps_s == pytest.approx(window.length_s)
    assert all(before[1] < after[0] for before, after in zip(known.spans, known.spans[1:], strict=False))


def test_the_nearest_stand_on_either_side() -> None:
    files = (file(1, 2), file(3, 4), file(8, 9), file(12, 13))
    earlier, later = nearest(files, Window(at(5), at(7)))
    assert (earlier, later) == (files[1], files[2])
    assert nearest((), Window(at(5), at(7))) == (None, None)


SPANS = ((0.0, 10.0), (30.0, 40.0))


def test_a_playhead_passes_over_gaps_and_stops_at_the_end() -> None:
    head = Playhead(Window(START, at(1)), SPANS, now=100.0)
    assert [head.position_s(100.0 + passed) for passed in (0, 5, 12, 50)] == [0.0, 5.0, 32.0, 40.0]
    assert head.at(105.0) == START + timedelta(seconds=5)
    assert not head.is_at_end(105.0)
    assert head.is_at_end(119.0)


def test_pause_seek_and_speed_move_the_playhead() -> None:
    head = Playhead(Window(START, at(1)), SPANS, now=0.0)
    head.pause(4.0)
    assert head.position_s(50.0) == 4.0
    head.play(50.0, scale=2.0)
    assert head.position_s(52.0) == 8.0
    assert head.position_s(54.0) == 32.0
    head.play(54.0, position_s=5.0)
    assert (head.scale, head.position_s(55.0)) == (2.0, 7.0)
    head.play(55.0, position_s=35.0, scale=-1.0)
    assert [head.position_s(55.0 + passed) for passed in (0, 2, 8, 60)] == [35.0, 33.0, 7.0, 0.0]
    assert head.is_at_end(70.0)


def test_without_a_timeline_the_whole_window_counts_as_recorded() -> None:
    head = Playhead(Window(START, at(1)), (), now=0.0)
    assert head.position_s(600.0) == 600.0
    assert not head.is_at_end(600.0)
