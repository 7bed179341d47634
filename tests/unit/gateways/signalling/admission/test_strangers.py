"""Strangers are counted one by one and told of once a second."""

from __future__ import annotations

from structlog.testing import capture_logs

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.admission.strangers import Strangers
from tongshi.protocols.sip.message import Remote


def test_a_flood_is_one_line_a_second_with_its_count() -> None:
    clock = ManualClock()
    strangers = Strangers(clock)
    with capture_logs() as lines:
        for number in range(12):
            strangers.note("INVITE", Remote("192.0.2.7", 1024 + number, "udp"))
            clock.advance(0.25)
    assert strangers.total == 12
    assert [line["count"] for line in lines] == [1, 4, 4]
    assert lines[0]["event"] == "strangers_refused"


def test_sources_are_remembered_up_to_a_bound_the_latest_first() -> None:
    clock = ManualClock()
    strangers = Strangers(clock, limit=3)
    for number in range(5):
        strangers.note("MESSAGE", Remote(f"192.0.2.{number}", 5060, "udp"), "31010100001320000001")
    strangers.drop(Remote("192.0.2.3", 5061, "udp"))
    assert [one.address for one in strangers.latest()] == ["192.0.2.3", "192.0.2.4", "192.0.2.2"]
    assert (strangers.latest()[0].refused, strangers.latest()[0].dropped) == (1, 1)
    assert (strangers.total, strangers.dropped) == (5, 1)
    assert strangers.forget("192.0.2.3")
    assert not strangers.forget("192.0.2.3")
