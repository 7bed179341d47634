"""Subscriptions over real loopback sockets: both roles as their users hold them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tongshi.errors import PeerFailed, PeerTimeout, Unavailable
from tongshi.gateways.signalling.endpoint import (
    IncomingInvite,
    IncomingRequest,
    IncomingSubscription,
    Remote,
    SipEndpoint,
    Subscription,
)
from tongshi.protocols.sip.subscription_events import End
from tongshi.protocols.sip.timers import TimerValues

UPPER, LOWER = "31000000002000000001", "31011500002000000001"
QUICK = TimerValues(t1_s=0.02, t2_s=0.1, t4_s=0.1)
XML = "Application/MANSCDP+xml"

Handler = Callable[[IncomingSubscription], Awaitable[None]]


class Fixture:
    """An upper that collects notifications and a lower that keeps what it accepted."""

    def __init__(self) -> None:
        self.theirs: list[IncomingSubscription] = []
        self.notified: list[IncomingRequest] = []
        self.status = 200

    async def accept(self, incoming: IncomingSubscription) -> None:
        incoming.accept(incoming.expires_s or 600)
        self.theirs.append(incoming)

    async def take(self, incoming: IncomingRequest) -> None:
        self.notified.append(incoming)
        incoming.respond(self.status)


async def decline(invite: IncomingInvite) -> None:
    invite.reject(486)


@asynccontextmanager
async def pair(
    fixture: Fixture, on_subscribe: Handler | None = None
) -> AsyncIterator[tuple[SipEndpoint, SipEndpoint]]:
    upper, lower = (
        SipEndpoint(
            local_id=local_id,
            host="127.0.0.1",
            port=0,
            on_request=fixture.take,
            on_invite=decline,
            on_subscribe=handler,
            timers=QUICK,
        )
        for local_id, handler in ((UPPER, None), (LOWER, on_subscribe or fixture.accept))
    )
    await upper.start()
    await lower.start()
    try:
        yield upper, lower
    finally:
        await upper.stop()
        await lower.stop()


async def subscribe(upper: SipEndpoint, lower: SipEndpoint, expires_s: int = 600) -> Subscription:
    return await upper.subscribe(
        to_id=LOWER,
        remote=Remote("127.0.0.1", lower.port, "udp"),
        event="Catalog;id=31",
        body=b"<Query/>",
        content_type=XML,
        expires_s=expires_s,
    )


async def test_both_sides_of_a_subscription() -> None:
    fixture, refreshed = Fixture(), asyncio.Event()
    async with pair(fixture) as (upper, lower):
        ours = await subscribe(upper, lower)
        assert (ours.expires_s, ours.peer_id) == (600, LOWER)
        (theirs,) = fixture.theirs
        assert (theirs.event, theirs.request.body) == ("catalog", b"<Query/>")
        assert (await theirs.notify(b"<Notify/>", XML)).status == 200
        assert (fixture.notified[0].subscription, fixture.notified[0].request.body) == (ours, b"<Notify/>")
        theirs.on_refresh = lambda expires_s: refreshed.set() if expires_s == 300 else None
        ours.renew(300)
        await asyncio.wait_for(refreshed.wait(), 15)
        ours.cancel()
        await asyncio.wait_for(theirs.ended.wait(), 15)
        await asyncio.wait_for(ours.ended.wait(), 15)
        assert (theirs.end, ours.end) == (End.CANCELLED, End.CANCELLED)
        with pytest.raises(Unavailable):
            await theirs.notify(b"<Notify/>", XML)
        with pytest.raises(Unavailable):
            ours.renew(300)


async def test_a_refusal_and_silence_are_told_apart() -> None:
    async def refuse(incoming: IncomingSubscription) -> None:
        incoming.reject(489)

    async with pair(Fixture(), refuse) as (upper, lower):
        with pytest.raises(PeerFailed) as caught:
            await subscribe(upper, lower)
        assert caught.value.details["sipStatus"] == 489
        lower._loop.agent = None
        with pytest.raises(PeerTimeout):
            await subscribe(upper, lower)


async def test_a_handler_that_breaks_answers_500() -> None:
    async def break_down(incoming: IncomingSubscription) -> None:
        raise RuntimeError("broken")

    async with pair(Fixture(), break_down) as (upper, lower):
        with pytest.raises(PeerFailed) as caught:
            await subscribe(upper, lower)
    assert caught.value.details["sipStatus"] == 500


async def test_a_platform_without_subscriptions_says_so() -> None:
    async with pair(Fixture()) as (upper, lower):
        with pytest.raises(PeerFailed) as caught:
            await lower.subscribe(
                to_id=UPPER,
                remote=Remote("127.0.0.1", upper.port, "udp"),
                event="presence",
                body=b"",
                content_type="",
                expires_s=60,
            )
    assert caught.value.details["sipStatus"] == 489


async def test_the_notifier_ends_it_and_a_stopped_endpoint_ends_all() -> None:
    fixture = Fixture()
    ends: list[End] = []
    async with pair(fixture) as (upper, lower):
        first, second = await subscribe(upper, lower), await subscribe(upper, lower)
        second.on_end = ends.append
        fixture.theirs[0].terminate("deactivated")
        await asyncio.wait_for(first.ended.wait(), 15)
        assert (first.end, first.detail) == (End.TERMINATED, "deactivated")
        await upper.stop()
        assert ends == [End.DROPPED]


async def test_a_notification_that_is_refused_ends_it() -> None:
    fixture = Fixture()
    async with pair(fixture) as (upper, lower):
        await subscribe(upper, lower)
        fixture.status = 481
        assert (await fixture.theirs[0].notify(b"<Notify/>", XML)).status == 481
        assert fixture.theirs[0].end is End.REFUSED
