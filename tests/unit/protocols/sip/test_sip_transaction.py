"""RFC 3261 17 with a clock moved by hand."""

from __future__ import annotations

from typing import Literal

import pytest

from tongshi.errors import LimitExceeded
from tongshi.protocols.sip.building import reply
from tongshi.protocols.sip.message import Headers, Remote, Request, Response, parse
from tongshi.protocols.sip.transaction import Transactions
from tongshi.protocols.sip.transaction_events import (
    AckReceived,
    Event,
    Key,
    RequestReceived,
    ResponseReceived,
    TransactionFailed,
)

UDP = Remote("192.0.2.1", 5060, "udp")
TCP = Remote("192.0.2.1", 5060, "tcp")


def request(method: str = "MESSAGE", branch: str = "z9hG4bK1", call_id: str = "c") -> Request:
    headers = Headers(
        [
            ("Via", f"SIP/2.0/UDP 192.0.2.9:5060;branch={branch}"),
            ("From", "<sip:a@b>;tag=f"),
            ("To", "<sip:c@d>"),
            ("Call-ID", call_id),
            ("CSeq", f"1 {method}"),
        ]
    )
    return Request(method, "sip:c@192.0.2.1", headers)


class Bench:
    """Transactions with a hand-moved clock and a record of what was sent when."""

    def __init__(self, max_pending: int = 10_000, max_answered: int = 50_000) -> None:
        self.now = 0.0
        self.machine = Transactions(max_pending=max_pending, max_answered=max_answered)
        self.sent: list[tuple[float, str]] = []

    def events(self) -> list[Event]:
        found = []
        while (event := self.machine.next_event()) is not None:
            found.append(event)
        return found

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events()]

    def collect(self) -> None:
        for output in self.machine.take_output():
            message = parse(output.data)
            what = message.method if isinstance(message, Request) else str(message.status)
            self.sent.append((round(self.now, 3), what))

    def run_until(self, end: float) -> None:
        """Move the clock from timer to timer."""
        self.collect()
        while (at := self.machine.next_timer()) is not None and at <= end:
            self.now = at
            self.machine.handle_timer(at)
            self.collect()
        self.now = end

    def send(self, message: Request, remote: Remote = UDP) -> Key:
        return self.machine.request(message, remote, self.now)

    def hear(self, message: Request | Response, remote: Remote = UDP) -> None:
        self.machine.receive(message, remote, self.now)
        self.collect()

    def answer(self, key: Key, asked: Request, status: int) -> None:
        self.machine.respond(key, reply(asked, UDP, status, to_tag="t"), self.now)
        self.collect()

    def times(self, what: str) -> list[float]:
        return [at for at, sent in self.sent if sent == what]


def test_timers_e_and_f_of_a_silent_peer() -> None:
    bench = Bench()
    bench.send(request())
    bench.run_until(40)
    assert bench.times("MESSAGE") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.events() == [TransactionFailed(("z9hG4bK1", "MESSAGE"), is_timeout=True)]
    assert bench.machine.pending == 0
    assert bench.machine.next_timer() is None


def test_timers_a_and_b_of_a_silent_peer() -> None:
    bench = Bench()
    bench.send(request("INVITE"))
    bench.run_until(40)
    assert bench.times("INVITE") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert bench.kinds() == ["TransactionFailed", "Terminated"]


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE"])
def test_nothing_is_repeated_over_tcp(method: str) -> None:
    bench = Bench()
    bench.send(request(method), TCP)
    bench.run_until(40)
    assert len(bench.sent) == 1
    assert "TransactionFailed" in bench.kinds()


def test_a_provisional_answer_slows_timer_e_and_does_not_stop_timer_f() -> None:
    bench = Bench()
    asked = request()
    bench.send(asked)
    bench.run_until(0.1)
    bench.hear(reply(asked, UDP, 100))
    bench.run_until(40)
    assert bench.times("MESSAGE") == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert bench.kinds() == ["TransactionFailed"]


def test_a_provisional_answer_stops_timers_a_and_b() -> None:
    bench = Bench()
    asked = request("INVITE")
    bench.send(asked)
    bench.hear(reply(asked, UDP, 180))
    bench.run_until(100)
    assert bench.times("INVITE") == [0]
    assert bench.kinds() == ["ResponseReceived"]


def test_timer_d_a_repeated_refusal_is_acknowledged_again_and_reported_once() -> None:
    bench = Bench()
    asked = request("INVITE")
    bench.send(asked)
    refusal = reply(asked, UDP, 486, to_tag="t")
    bench.hear(refusal)
    bench.run_until(10)
    bench.hear(refusal)
    assert bench.times("ACK") == [0, 10]
    assert bench.kinds() == ["ResponseReceived"]
    bench.run_until(40)
    bench.hear(refusal)
    assert len(bench.times("ACK")) == 2
    assert bench.machine.pending == 0


def test_the_ack_of_a_refusal_is_the_transactions_own() -> None:
    machine = Transactions()
    asked = request("INVITE")
    asked.headers.add("Route", "<sip:proxy;lr>")
    machine.request(asked, UDP, 0)
    machine.take_output()
    machine.receive(reply(asked, UDP, 486, to_tag="t"), UDP, 0)
    ack = parse(machine.take_output()[0].data)
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri_text) == ("ACK", asked.uri_text)
    assert ack.via.branch == asked.via.branch
    assert ack.to.tag == "t"
    assert str(ack.cseq) == "1 ACK"
    assert ack.headers.get("Route") == "<sip:proxy;lr>"


def test_timer_m_every_repeated_2xx_reaches_the_user() -> None:
    bench = Bench()
    asked = request("INVITE")
    bench.send(asked)
    for _ in range(3):
        bench.hear(reply(asked, UDP, 200, to_tag="t"))
    bench.hear(reply(asked, UDP, 486, to_tag="t"))
    assert bench.kinds() == ["ResponseReceived"] * 3
    bench.run_until(33)
    assert bench.kinds() == ["Terminated"]


def test_an_answer_without_its_branch_is_found_by_call_id_and_cseq() -> None:
    bench = Bench()
    asked = request()
    key = bench.send(asked)
    mangled = reply(asked, UDP, 200)
    mangled.headers.set("Via", "SIP/2.0/UDP 192.0.2.9:5060")
    bench.hear(mangled)
    assert bench.events() == [ResponseReceived(key, mangled, UDP)]


def test_an_answer_to_nobody_is_dropped() -> None:
    bench = Bench()
    bench.hear(reply(request(branch="z9hG4bKother"), UDP, 200))
    assert bench.events() == []
    assert bench.sent == []


def test_timer_j_a_repeated_request_gets_the_same_answer_without_being_seen_again() -> None:
    bench = Bench()
    asked = request()
    bench.hear(asked)
    bench.hear(asked)
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    assert bench.sent == []
    bench.answer(event.key, asked, 200)
    bench.now = 31.0
    bench.hear(asked)
    assert bench.times("200") == [0, 31]
    assert bench.events() == []
    bench.now = 33.0
    bench.hear(asked)
    assert bench.kinds() == ["RequestReceived"]


def test_an_answer_of_a_tcp_request_is_not_remembered() -> None:
    bench = Bench()
    asked = request()
    bench.hear(asked, TCP)
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    bench.answer(event.key, asked, 200)
    bench.hear(asked, TCP)
    assert bench.kinds() == ["RequestReceived"]


def test_remembered_answers_are_bounded() -> None:
    bench = Bench(max_answered=3)
    for number in range(5):
        bench.hear(request(branch=f"z9hG4bK{number}"))
        (event,) = bench.events()
        assert isinstance(event, RequestReceived)
        bench.answer(event.key, event.request, 200)
    bench.hear(request(branch="z9hG4bK4"))
    assert bench.events() == []
    bench.hear(request(branch="z9hG4bK0"))
    assert bench.kinds() == ["RequestReceived"]


def test_a_request_that_nobody_answers_leaves_after_64_t1() -> None:
    bench = Bench()
    bench.hear(request())
    bench.run_until(33)
    assert bench.machine.pending == 0
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    assert not bench.machine.respond(event.key, reply(event.request, UDP, 200), 33)


def test_100_follows_after_200_ms_unless_the_user_was_faster() -> None:
    slow, fast = Bench(), Bench()
    for bench in (slow, fast):
        bench.hear(request("INVITE"))
    (event,) = fast.events()
    assert isinstance(event, RequestReceived)
    fast.answer(event.key, event.request, 180)
    for bench in (slow, fast):
        bench.run_until(1)
        bench.hear(request("INVITE"))
    assert slow.sent == [(0.2, "100"), (1, "100")]
    assert fast.sent == [(0, "180"), (1, "180")]


@pytest.mark.parametrize(
    ("transport", "expected"),
    [("udp", [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]), ("tcp", [0])],
)
def test_timers_g_and_h_of_a_refusal_that_nobody_acknowledges(
    transport: Literal["udp", "tcp"], expected: list[float]
) -> None:
    bench = Bench()
    bench.hear(request("INVITE"), Remote("192.0.2.1", 5060, transport))
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    bench.answer(event.key, event.request, 486)
    bench.run_until(40)
    assert bench.times("486") == expected
    assert bench.kinds() == ["Terminated"]


def test_timer_i_the_ack_ends_the_repetition_and_its_repeats_are_absorbed() -> None:
    bench = Bench()
    bench.hear(request("INVITE"))
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    bench.answer(event.key, event.request, 486)
    bench.run_until(1)
    bench.hear(request("ACK"))
    bench.hear(request("ACK"))
    bench.hear(request("INVITE"))
    bench.run_until(5.9)
    assert bench.times("486") == [0, 0.5]
    assert bench.events() == []
    bench.run_until(6)
    assert bench.kinds() == ["Terminated"]


def test_timer_l_after_a_2xx_repeated_invites_are_absorbed_and_acks_go_up() -> None:
    bench = Bench()
    bench.hear(request("INVITE"))
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    bench.answer(event.key, event.request, 200)
    bench.hear(request("INVITE"))
    ack = request("ACK", branch="z9hG4bKack")
    bench.hear(ack)
    assert bench.times("200") == [0]
    assert bench.events() == [AckReceived(ack, UDP)]
    bench.run_until(33)
    assert bench.kinds() == ["Terminated"]


def test_timer_c_ends_a_call_that_its_user_forgot() -> None:
    bench = Bench()
    bench.hear(request("INVITE"))
    bench.run_until(220)
    assert bench.times("408")[0] == 180
    assert bench.kinds() == ["RequestReceived", "TransactionFailed", "Terminated"]
    assert bench.machine.pending == 0


@pytest.mark.parametrize("branch", ["", "1234", "z9hG4bK"])
def test_branches_without_the_magic_match_by_call_id_cseq_and_from_tag(branch: str) -> None:
    bench = Bench()
    bench.hear(request("INVITE", branch))
    bench.hear(request("INVITE", branch))
    (event,) = bench.events()
    assert isinstance(event, RequestReceived)
    bench.hear(request("INVITE", branch, call_id="other"))
    assert bench.kinds() == ["RequestReceived"]
    bench.answer(event.key, event.request, 486)
    bench.hear(request("ACK", branch))
    bench.run_until(40)
    assert bench.times("486") == [0]


def test_beyond_the_bound_requests_get_503_and_ours_are_refused() -> None:
    bench = Bench(max_pending=2)
    for number in range(3):
        bench.hear(request(branch=f"z9hG4bK{number}"))
    assert bench.sent == [(0, "503")]
    for number in range(2):
        bench.send(request(branch=f"z9hG4bKours{number}"))
    with pytest.raises(LimitExceeded):
        bench.send(request(branch="z9hG4bKours3"))


def test_a_broken_connection_fails_what_waits_on_it_and_nothing_else() -> None:
    bench = Bench()
    other = Remote("192.0.2.2", 5060, "tcp")
    key = bench.send(request(), TCP)
    bench.send(request(branch="z9hG4bK2", call_id="d"), other)
    bench.machine.fail(TCP)
    assert bench.events() == [TransactionFailed(key, is_timeout=False)]
    assert bench.machine.pending == 1


def test_an_abandoned_request_is_forgotten() -> None:
    bench = Bench()
    asked = request()
    key = bench.send(asked)
    bench.machine.abandon(key)
    bench.hear(reply(asked, UDP, 200))
    bench.run_until(40)
    assert bench.times("MESSAGE") == [0]
    assert bench.events() == []


def test_cancelled_timers_do_not_pile_up() -> None:
    bench = Bench()
    for number in range(5000):
        asked = request(branch=f"z9hG4bK{number}", call_id=str(number))
        bench.send(asked)
        bench.hear(reply(asked, UDP, 200))
    assert len(bench.machine._timers._heap) < 100
