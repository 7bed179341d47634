"""The measuring of signalling measures: small runs of what is asked to be large."""

from __future__ import annotations

import os

from tongshi.bench import sip, sip_catalogue, sip_ptz


def test_a_small_storm_loses_nobody() -> None:
    cores = os.sched_getaffinity(0)
    told = sip.storm(devices=30, within_s=0.3, beat_minutes=0.02, interval_s=0.4)
    assert (told["registered"], told["online_at_the_end"], told["false_offline"]) == (30, 30, 0)
    assert told["catalogues_complete"] == 30
    assert isinstance(told["heartbeats"], int)
    assert told["heartbeats_answered"] == told["heartbeats"] >= 30
    assert os.sched_getaffinity(0) == cores


def test_a_small_catalogue_is_taken_in_and_told() -> None:
    told = sip_catalogue.run(120, ("tcp",))["tcp"]
    assert isinstance(told, dict)
    assert (told["taken_in"]["state"], told["taken_in"]["items"]) == ("complete", 121)
    assert told["told"]["state"] == "complete"
    assert told["told"]["by_tcp"] == told["told"]["messages"]


def test_commands_are_timed_over_one_level_and_two() -> None:
    told = sip_ptz.run(3)
    assert told["commands"] == 3
    assert told["two_levels"]["p50_ms"] > 0  # type: ignore[index]
