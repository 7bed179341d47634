"""A service counts as degraded by what its callers saw, and recovers with time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tongshi.clock import ManualClock
from tongshi.resources.services.watch import MIN_FAILURES, WINDOW_S, ServiceWatch
from tongshi.web.annex_e import complete
from tongshi.web.operations import AnyOperation, Open, Unrecorded
from tongshi.web.ports import Attempt, Head

HEAD = Head("r", "POST", "/", "", {}, {}, "127.0.0.1", datetime(2026, 1, 1, tzinfo=UTC))
OPERATIONS: dict[str, AnyOperation] = {
    operation.name: operation for operation in complete([], lambda value: Open.PUBLIC, Unrecorded.NOTHING)
}


def attempt(name: str, status: int, code: int = 0) -> Attempt:
    return Attempt(OPERATIONS[name], HEAD, None, status, code, "", 0, 0.1)


def observed(clock: ManualClock, name: str, status: int, count: int, code: int = 0) -> ServiceWatch:
    watch = ServiceWatch(clock.now)
    for _ in range(count):
        watch.observe(attempt(name, status, code))
    return watch


def test_a_service_that_fails_often_is_degraded_and_says_how_often() -> None:
    watch = observed(ManualClock(), "listDevices", 500, MIN_FAILURES)
    assert "5 次失败" in watch.trouble("listDevices")
    assert watch.trouble("getDevice") == ""


def test_a_few_failures_among_many_calls_are_no_trouble() -> None:
    watch = observed(ManualClock(), "listDevices", 200, 100)
    for _ in range(MIN_FAILURES):
        watch.observe(attempt("listDevices", 500))
    assert watch.trouble("listDevices") == ""


@pytest.mark.parametrize(("status", "code"), [(504, 50401), (502, 50201), (503, 50301), (404, 40401)])
def test_what_a_device_does_is_no_trouble_of_the_service(status: int, code: int) -> None:
    assert observed(ManualClock(), "liveUrl", status, 50, code).trouble("liveUrl") == ""


def test_media_that_is_full_and_a_database_that_is_away_are_trouble() -> None:
    assert observed(ManualClock(), "liveUrl", 503, 50, 50302).trouble("liveUrl")
    assert observed(ManualClock(), "listDevices", 503, 50, 50301).trouble("listDevices")


def test_trouble_passes_after_two_windows() -> None:
    clock = ManualClock()
    watch = observed(clock, "listDevices", 500, 50)
    clock.advance(WINDOW_S)
    assert watch.trouble("listDevices")
    clock.advance(WINDOW_S)
    assert watch.trouble("listDevices") == ""
