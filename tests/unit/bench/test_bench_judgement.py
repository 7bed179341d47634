"""How soak and link are judged, by hand-made counts; nothing is sent here."""

from __future__ import annotations

import pytest

from tongshi.bench.link import GROUP, Seen, judge
from tongshi.bench.soak import Rest, slope


def rests(memory: list[int]) -> list[Rest]:
    return [Rest(10.0 * number, one, 40, 3) for number, one in enumerate(memory)]


def test_the_slope_is_the_growth_over_the_judged_time() -> None:
    assert slope(rests([100, 110, 120, 130]), lambda rest: rest.memory_bytes) == pytest.approx(30)
    assert slope(rests([100, 90, 110, 100]), lambda rest: rest.memory_bytes) == pytest.approx(6)
    assert slope(rests([100] * 9), lambda rest: rest.descriptors) == 0


def test_a_missing_picture_breaks_its_group_until_the_next_key_frame() -> None:
    sent_at = {number: number * 0.04 for number in range(GROUP * 3)}
    seen = [Seen(number, at + 0.01) for number, at in sent_at.items() if number != GROUP + 9]
    outcome = judge(sent_at, seen, lost=1, reordered=0)
    assert (outcome.sent, outcome.came) == (GROUP * 3, GROUP * 3 - 1)
    assert outcome.shown_right == GROUP * 2 + 9
    assert outcome.breaks == 1
    # From the picture before the missing one to the key frame of the third group.
    assert outcome.recovery_max_s == pytest.approx((GROUP * 2 - (GROUP + 8)) * 0.04, abs=0.01)
    assert outcome.delay_p50_ms == pytest.approx(10, abs=0.1)


def test_a_viewer_who_saw_nothing_has_no_recovery() -> None:
    outcome = judge({0: 0.0, 1: 0.04}, [], lost=9, reordered=0)
    assert (outcome.came, outcome.shown_right, outcome.breaks, outcome.recovery_max_s) == (0, 0, 0, 0.0)
