"""Subscriptions between two user agents back to back: both roles, every way to end, on a hand-moved clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import pytest

from tongshi.errors import LimitExceeded, Unavailable
from tongshi.protocols.sip.agent import UserAgent
from tongshi.protocols.sip.agent_events import AgentEvent, RequestArrived
from tongshi.protocols.sip.composing import Draft, Identity
from tongshi.protocols.sip.message import Remote, Request, Response, parse
from tongshi.protocols.sip.subscription_events import (
    End,
    SubscribeArrived,
    SubscriptionAnswered,
    SubscriptionEnded,
    SubscriptionFailed,
    SubscriptionRefreshed,
)

UPPER, LOWER = "31000000002000000001", "31011500002000000001"
UPPER_AT, LOWER_AT = Remote("192.0.2.1", 5060, "udp"), Remote("192.0.2.2", 5060, "udp")
BODY = b"<Query/>"
E = TypeVar("E")


class Pair:
    """An upper that subscribes and a lower that notifies."""

    def __init__(self) -> None:
        rng = random.Random(7)
        self.now = 0.0
        self.upper = UserAgent(Identity(UPPER, "192.0.2.1", 5060), random_bytes=rng.randbytes)
        self.lower = UserAgent(Identity(LOWER, "192.0.2.2", 5060), random_bytes=rng.randbytes)
        self.events: dict[str, list[AgentEvent]] = {"upper": [], "lower": []}
        self.sent: list[Request | Response] = []
        self.passes: Callable[[Request | Response], bool] = lambda message: True
        self.answers_notify = 200
        self.accepts_s: int | None = 600

    def pump(self) -> None:
        busy = True
        while busy:
            busy = False
            for name, agent, source, other in (
                ("upper", self.upper, UPPER_AT, self.lower),
                ("lower", self.lower, LOWER_AT, self.upper),
            ):
                while (event := agent.next_event()) is not None:
                    self.events[name].append(event)
                    self._react(agent, event)
                for output in agent.take_output():
                    message = parse(output.data)
                    self.sent.append(message)
                    busy = True
                    if self.passes(message):
                        other.receive(output.data, source, self.now)

    def _next(self, end: float) -> float:
        times = (self.upper.next_timer(), self.lower.next_timer())
        return min((at for at in times if at is not None), default=end)

    def run_until(self, end: float) -> None:
        self.pump()
        while (at := self._next(end)) < end:
            self.now = max(self.now, at)
            self.upper.handle_timer(self.now)
            self.lower.handle_timer(self.now)
            self.pump()
        self.now = end

    def _react(self, agent: UserAgent, event: AgentEvent) -> None:
        if isinstance(event, SubscribeArrived):
            if self.accepts_s is None:
                agent.subscriptions.reject(event.subscription, 489, (("Allow-Events", "Catalog"),), self.now)
            else:
                agent.subscriptions.accept(event.subscription, self.accepts_s, self.now)
        elif isinstance(event, RequestArrived) and event.request.method == "NOTIFY":
            agent.respond(event, self.answers_notify, "", (), b"", "", self.now)

    def subscribe(self, expires_s: int = 600, headers: tuple[tuple[str, str], ...] = ()) -> int:
        draft = Draft(
            "SUBSCRIBE", LOWER, (("Event", "Catalog;id=31"), *headers), BODY, "Application/MANSCDP+xml"
        )
        number = self.upper.subscribe(draft, LOWER_AT, expires_s, self.now)
        self.pump()
        return number

    def of(self, name: str, kind: type[E]) -> list[E]:
        return [event for event in self.events[name] if isinstance(event, kind)]

    def requests(self, method: str) -> list[Request]:
        return [m for m in self.sent if isinstance(m, Request) and m.method == method]

    def ends(self, name: str) -> list[End]:
        return [event.end for event in self.events[name] if isinstance(event, SubscriptionEnded)]

    def refusals(self) -> list[int]:
        failed = self.of("upper", SubscriptionFailed)
        return [event.response.status for event in failed if event.response is not None]

    @property
    def left(self) -> tuple[int, int]:
        return len(self.upper.subscriptions), len(self.lower.subscriptions)


def test_a_subscription_is_granted_notified_refreshed_and_cancelled_in_one_dialog() -> None:
    pair = Pair()
    number = pair.subscribe()
    assert [event.expires_s for event in pair.of("upper", SubscriptionAnswered)] == [600]
    theirs = pair.of("lower", SubscribeArrived)[0].subscription
    pair.lower.subscriptions.notify(theirs, b"<Notify/>", "Application/MANSCDP+xml", 15.0)
    pair.pump()
    notify = pair.requests("NOTIFY")[0]
    assert notify.headers.get("Event") == "Catalog;id=31"
    assert notify.headers.get("Subscription-State") == "active;expires=585"
    assert [event.subscription for event in pair.of("upper", RequestArrived)] == [number]
    pair.run_until(400)
    pair.upper.subscriptions.renew(number, 600, pair.now)
    pair.pump()
    assert [event.expires_s for event in pair.of("lower", SubscriptionRefreshed)] == [600]
    pair.run_until(900)
    assert pair.left == (1, 1)
    pair.upper.subscriptions.cancel(number, pair.now)
    pair.run_until(1000)
    assert (pair.ends("upper"), pair.ends("lower"), pair.left) == ([End.CANCELLED], [End.CANCELLED], (0, 0))
    first, refresh, cancel = pair.requests("SUBSCRIBE")
    assert {request.call_id for request in (first, refresh, cancel, notify)} == {first.call_id}
    assert (refresh.to.tag, cancel.to.tag) == (notify.from_.tag, notify.from_.tag)
    assert [request.headers.get("Expires") for request in (first, refresh, cancel)] == ["600", "600", "0"]
    assert [request.cseq.number for request in (first, refresh, cancel)] == [1, 2, 3]
    assert (refresh.headers.get("Event"), refresh.body) == ("Catalog;id=31", BODY)
    assert pair.requests("NOTIFY")[-1].headers.get("Subscription-State").startswith("terminated")


def test_what_nobody_refreshes_ends_on_both_sides() -> None:
    pair = Pair()
    pair.subscribe()
    pair.run_until(599)
    assert pair.left == (1, 1)
    pair.run_until(700)
    assert (pair.ends("lower"), pair.ends("upper"), pair.left) == ([End.EXPIRED], [End.TERMINATED], (0, 0))


def test_the_subscriber_notices_expiry_without_a_word() -> None:
    pair = Pair()
    pair.subscribe()
    pair.passes = lambda message: False
    pair.run_until(700)
    assert (pair.ends("upper"), pair.left) == ([End.EXPIRED], (0, 0))


def test_a_terminated_notification_ends_it_and_says_why() -> None:
    pair = Pair()
    pair.subscribe()
    pair.lower.subscriptions.terminate(pair.of("lower", SubscribeArrived)[0].subscription, "deactivated", 1.0)
    pair.pump()
    ended = pair.of("upper", SubscriptionEnded)
    assert [(event.end, event.detail) for event in ended] == [(End.TERMINATED, "deactivated")]
    assert pair.left == (0, 0)


def test_a_refusal_is_told_with_its_status_and_leaves_nothing() -> None:
    pair = Pair()
    pair.accepts_s = None
    pair.subscribe()
    assert pair.refusals() == [489]
    assert pair.left == (0, 0)


def test_silence_is_a_failure() -> None:
    pair = Pair()
    pair.passes = lambda message: False
    pair.subscribe()
    pair.run_until(40)
    assert [event.is_timeout for event in pair.of("upper", SubscriptionFailed)] == [True]
    assert pair.left == (0, 0)


def test_a_notification_may_overtake_the_answer() -> None:
    pair = Pair()
    held: list[Response] = []

    def hold(message: Request | Response) -> bool:
        if isinstance(message, Response) and message.cseq.method == "SUBSCRIBE" and not held:
            held.append(message)
            return False
        return True

    pair.passes = hold
    number = pair.subscribe()
    pair.lower.subscriptions.notify(pair.of("lower", SubscribeArrived)[0].subscription, b"<a/>", "x/y", 0.0)
    pair.pump()
    assert [event.subscription for event in pair.of("upper", RequestArrived)] == [number]
    pair.upper.receive(held[0].encode(), LOWER_AT, 0.1)
    pair.pump()
    pair.upper.subscriptions.renew(number, 600, 1.0)
    pair.pump()
    assert len(pair.of("lower", SubscriptionRefreshed)) == 1


@pytest.mark.parametrize("status", [481, 489, 404])
def test_a_refused_notification_removes_the_subscription(status: int) -> None:
    pair = Pair()
    pair.subscribe()
    pair.answers_notify = status
    pair.lower.subscriptions.notify(pair.of("lower", SubscribeArrived)[0].subscription, b"<a/>", "x/y", 1.0)
    pair.pump()
    assert (pair.ends("lower"), pair.left[1]) == ([End.REFUSED], 0)


def test_a_notification_refused_for_now_keeps_the_subscription() -> None:
    pair = Pair()
    pair.subscribe()
    pair.answers_notify = 503
    pair.lower.subscriptions.notify(pair.of("lower", SubscribeArrived)[0].subscription, b"<a/>", "x/y", 1.0)
    pair.pump()
    assert (pair.ends("lower"), pair.left) == ([], (1, 1))


def test_an_unanswered_notification_removes_the_subscription() -> None:
    pair = Pair()
    pair.subscribe()
    pair.passes = lambda message: not isinstance(message, Response)
    pair.lower.subscriptions.notify(pair.of("lower", SubscribeArrived)[0].subscription, b"<a/>", "x/y", 1.0)
    pair.run_until(60)
    assert (pair.ends("lower"), pair.left[1]) == ([End.SILENT], 0)


def test_a_refused_refresh_ends_it_so_that_a_new_one_can_be_made() -> None:
    """Quirk 58: many devices answer 481 to a refresh."""
    pair = Pair()
    number = pair.subscribe()
    pair.lower = UserAgent(Identity(LOWER, "192.0.2.2", 5060), random_bytes=random.Random(9).randbytes)
    pair.upper.subscriptions.renew(number, 600, 1.0)
    pair.pump()
    assert [event.detail for event in pair.of("upper", SubscriptionEnded)] == ["481"]
    with pytest.raises(Unavailable):
        pair.upper.subscriptions.renew(number, 600, 2.0)
    assert pair.left == (0, 0)


def test_a_notification_of_nobody_gets_481() -> None:
    pair = Pair()
    pair.subscribe()
    text = pair.requests("SUBSCRIBE")[0]
    stray = (
        f"NOTIFY sip:{UPPER}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKx1\r\n"
        f"From: <sip:{LOWER}@3101150000>;tag=zz\r\nTo: <sip:{UPPER}@3100000000>;tag=other\r\n"
        f"Call-ID: {text.call_id}\r\nCSeq: 1 NOTIFY\r\nEvent: Catalog;id=31\r\n"
        "Subscription-State: active\r\nContent-Length: 0\r\n\r\n"
    )
    pair.upper.receive(stray.encode(), LOWER_AT, 1.0)
    assert [parse(output.data).status for output in pair.upper.take_output()] == [481]  # type: ignore[union-attr]
    assert pair.upper.next_event() is None


def test_an_old_notification_is_refused_and_a_repeated_one_answered_again() -> None:
    pair = Pair()
    pair.subscribe()
    theirs = pair.of("lower", SubscribeArrived)[0].subscription
    pair.lower.subscriptions.notify(theirs, b"<a/>", "x/y", 1.0)
    pair.lower.subscriptions.notify(theirs, b"<b/>", "x/y", 1.0)
    late, newer = (output for output in pair.lower.take_output() if output.data.startswith(b"NOTIFY"))
    for output in (newer, newer, late):
        pair.upper.receive(output.data, LOWER_AT, 1.0)
        for _ in range(2):
            while (event := pair.upper.next_event()) is not None:
                assert isinstance(event, RequestArrived)
                pair.upper.respond(event, 200, "", (), b"", "", 1.0)
    statuses = [parse(output.data).status for output in pair.upper.take_output()]  # type: ignore[union-attr]
    assert statuses == [200, 200, 500]


def test_a_subscriber_without_contact_is_answered_where_it_spoke_from() -> None:
    """Quirk 27."""
    pair = Pair()
    bare = (
        f"SUBSCRIBE sip:{LOWER}@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;rport;branch=z9hG4bKx2\r\n"
        f"From: <sip:{UPPER}@3100000000>;tag=q27\r\nTo: <sip:{LOWER}@3101150000>\r\n"
        "Call-ID: q27\r\nCSeq: 1 SUBSCRIBE\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n"
    )
    pair.lower.receive(bare.encode(), Remote("198.51.100.4", 6060, "udp"), 0.0)
    event = pair.lower.next_event()
    assert isinstance(event, SubscribeArrived)
    pair.lower.subscriptions.accept(event.subscription, 60, 0.0)
    pair.lower.subscriptions.notify(event.subscription, b"", "", 0.0)
    answer, notify = pair.lower.take_output()
    assert (answer.remote.port, notify.remote.port) == (6060, 6060)
    asked = parse(notify.data)
    assert isinstance(asked, Request)
    assert asked.uri_text == f"sip:{UPPER}@198.51.100.4:6060"


def test_a_refresh_of_an_unknown_subscription_gets_481() -> None:
    pair = Pair()
    pair.subscribe()
    text = pair.requests("SUBSCRIBE")[0].encode().replace(b"@3101150000>", b"@3101150000>;tag=gone", 1)
    pair.lower.receive(text.replace(b"z9hG4bK", b"z9hG4bKnew"), UPPER_AT, 1.0)
    assert [parse(output.data).status for output in pair.lower.take_output()] == [481]  # type: ignore[union-attr]


def test_subscriptions_are_bounded_in_both_roles() -> None:
    pair = Pair()
    for agent in (pair.upper, pair.lower):
        agent.subscriptions.limit = 2
    for _ in range(2):
        pair.subscribe()
    with pytest.raises(LimitExceeded):
        pair.subscribe()
    pair.upper.subscriptions.limit = 3
    pair.subscribe()
    assert pair.refusals() == [503]
    assert pair.left == (2, 2)


def test_an_offer_that_nobody_answers_is_forgotten() -> None:
    pair = Pair()
    pair.passes = lambda message: isinstance(message, Request)
    draft = Draft("SUBSCRIBE", LOWER, (("Event", "presence"),), BODY, "x/y")
    pair.upper.subscribe(draft, LOWER_AT, 60, 0.0)
    (output,) = pair.upper.take_output()
    pair.lower.receive(output.data, UPPER_AT, 0.0)
    assert pair.left[1] == 1
    pair.lower.handle_timer(40.0)
    assert pair.left[1] == 0
