"""Buckets refill, bans grow and end, tables stay bounded."""

from __future__ import annotations

from datetime import timedelta

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.admission.bans import (
    FIRST_BAN_S,
    LONGEST_BAN_S,
    MAX_BANS,
    MAX_FAILURES,
    MAX_SOURCES,
    WINDOW_S,
    Bans,
)
from tongshi.gateways.signalling.admission.buckets import Buckets
from tongshi.resources.admission.model import Ban, BanReason

AT = ManualClock().at()


def fail(bans: Bans, times: int, now: float = 0.0, subject: str = "192.0.2.7") -> bool:
    return [bans.fail(subject, BanReason.DIGEST, now, AT + timedelta(seconds=now)) for _ in range(times)][-1]


def test_a_source_that_fails_too_often_is_banned_for_a_while() -> None:
    told: list[Ban] = []
    bans = Bans(told.append)
    assert not fail(bans, MAX_FAILURES - 1)
    assert not bans.covers("192.0.2.7", AT)
    assert fail(bans, 1)
    assert bans.covers("192.0.2.7", AT)
    assert not bans.covers("192.0.2.8", AT)
    assert not bans.covers("192.0.2.7", AT + timedelta(seconds=FIRST_BAN_S))
    assert [ban.subject for ban in told] == ["192.0.2.7"]
    assert bans.running(AT)[0].refused == 1


def test_failures_that_are_far_apart_ban_nobody() -> None:
    bans = Bans()
    for number in range(10 * MAX_FAILURES):
        assert not fail(bans, 1, number * WINDOW_S / (MAX_FAILURES - 2))
    assert bans.total == 10 * MAX_FAILURES


def test_each_further_ban_is_twice_as_long_up_to_an_hour_and_forgiven_after_a_day() -> None:
    bans, at, lengths = Bans(), AT, []
    for _ in range(9):
        ban = bans.ban("192.0.2.7", BanReason.FLOOD, at)
        lengths.append((ban.until - ban.since).total_seconds())
        at = ban.until + timedelta(hours=1)
    assert lengths[:4] == [FIRST_BAN_S, 2 * FIRST_BAN_S, 4 * FIRST_BAN_S, 8 * FIRST_BAN_S]
    assert lengths[-1] == LONGEST_BAN_S
    later = bans.ban("192.0.2.7", BanReason.FLOOD, at + timedelta(days=2))
    assert later.level == 1


def test_a_lifted_ban_is_over_and_what_led_to_it_forgotten() -> None:
    bans = Bans()
    fail(bans, MAX_FAILURES)
    assert bans.lift("192.0.2.7") is not None
    assert not bans.covers("192.0.2.7", AT)
    assert not fail(bans, MAX_FAILURES - 1)
    assert bans.lift("192.0.2.9") is None


def test_a_flood_of_sources_fills_no_table() -> None:
    bans = Bans()
    for number in range(MAX_SOURCES + 500):
        fail(bans, 1, subject=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(bans._failures) == MAX_SOURCES
    for number in range(MAX_BANS + 100):
        bans.ban(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", BanReason.FLOOD, AT)
    assert len(bans) == MAX_BANS


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    buckets = Buckets(rate_per_s=2.0, burst=5.0, limit=3)
    assert [buckets.take("a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [buckets.take("a", 1.0) for _ in range(3)] == [True, True, False]
    assert buckets.take("b", 1.0)
    buckets.give("a", 1.0, 2.0)
    assert buckets.take("a", 1.0, cost=2.0)
    buckets.give("a", 1.0, 1_000.0)
    assert [buckets.take("a", 1.0) for _ in range(6)] == [True] * 5 + [False]
    for source in "cdefg":
        buckets.take(source, 1.0)
    assert len(buckets) == 3
