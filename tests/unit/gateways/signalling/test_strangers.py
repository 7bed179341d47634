"""Strangers are counted one by one and told of once a second."""

from __future__ import annotations

from structlog.testing import capture_logs

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.strangers import Strangers
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
