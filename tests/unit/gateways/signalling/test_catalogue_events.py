"""Events of a peer's catalogue: what each word does, and of whom a peer may speak."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.peers import Peer
from tongshi.gateways.signalling.subscriptions.catalogue_events import REASK_S, CatalogueEvents
from tongshi.protocols.gb28181.items import BadItem
from tongshi.protocols.gb28181.notify import CatalogChange, CatalogEvent, CatalogNotify
from tongshi.protocols.gb28181.profile import Profile
from tongshi.protocols.gb28181.types import CatalogItem

PLATFORM, OWN, OTHER = "31010100002000000001", "31010100001320000001", "31010500001320000001"
NODE = "310101"


class Kept:
    """The archive and the newsroom: what was asked of them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []

    async def merge_catalogue(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        self.done.append(("merge", [item.device_id for item in items]))

    async def merge_nodes(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        self.done.append(("nodes", [item.device_id for item in items]))

    async def note_status(self, online: dict[str, bool], source: str, reason: str) -> None:
        self.done.append((reason, online))

    async def told_by(self, peer_id: str, codes: Collection[str], *, is_platform: bool) -> Collection[str]:
        return {OWN} & set(codes)

    async def mark_gone(self, peer_id: str, codes: Sequence[str], *, is_platform: bool) -> int:
        self.done.append(("gone", list(codes)))
        return len(codes)

    def learn(self, peer_id: str, codes: Any) -> None:
        self.done.append(("learn", list(codes)))


class Answered:
    """A request that counts its answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def respond(self, status: int) -> None:
        self.statuses.append(status)


class Desk:
    def __init__(self) -> None:
        self.kept, self.clock = Kept(), ManualClock()
        self.asked: list[str] = []
        kept: Any = self.kept
        self.events = CatalogueEvents(kept, kept, kept, self.clock, lambda peer: self.asked.append(peer.id))
        self.peer = Peer(PLATFORM, Remote("127.0.0.1", 5060, "udp"), Profile(), 5000.0, 0.0, is_platform=True)

    async def take(self, *changes: tuple[CatalogEvent, str], bad: int = 0) -> list[int]:
        told = tuple(CatalogChange(event, CatalogItem(device_id=code)) for event, code in changes)
        spoilt = tuple(BadItem(index, "", "unknown event") for index in range(bad))
        answered = Answered()
        await self.events.take(cast(Any, answered), self.peer, CatalogNotify(1, PLATFORM, told, spoilt))
        return answered.statuses


@pytest.mark.parametrize(
    ("event", "done"),
    [
        (CatalogEvent.ON, ("catalogueOn", {OWN: True})),
        (CatalogEvent.OFF, ("catalogueOff", {OWN: False})),
        (CatalogEvent.VIDEO_LOST, ("videoLost", {OWN: False})),
        (CatalogEvent.DEFECT, ("defect", {OWN: False})),
        (CatalogEvent.DELETED, ("gone", [OWN])),
    ],
)
async def test_each_word_has_its_deed(event: CatalogEvent, done: tuple[str, Any]) -> None:
    desk = Desk()
    assert await desk.take((event, OWN)) == [200]
    assert (desk.kept.done, desk.asked) == ([done], [])


@pytest.mark.parametrize("event", [CatalogEvent.ADDED, CatalogEvent.UPDATED])
async def test_whole_items_are_merged_as_a_catalogue_is(event: CatalogEvent) -> None:
    desk = Desk()
    await desk.take((event, OTHER), (event, NODE))
    assert desk.kept.done == [("merge", [OTHER]), ("learn", [OTHER]), ("nodes", [NODE])]


@pytest.mark.parametrize("event", [CatalogEvent.OFF, CatalogEvent.DELETED])
async def test_a_peer_speaks_of_its_own_only(event: CatalogEvent) -> None:
    desk = Desk()
    await desk.take((event, OTHER))
    assert desk.kept.done == []


async def test_the_last_word_of_a_notification_counts() -> None:
    desk = Desk()
    await desk.take((CatalogEvent.OFF, OWN), (CatalogEvent.ON, OWN))
    assert desk.kept.done == [("catalogueOn", {OWN: True})]


async def test_what_is_unknown_or_unreadable_is_a_reason_to_ask_again_but_not_often() -> None:
    desk = Desk()
    await desk.take((CatalogEvent.ON, OTHER))
    await desk.take(bad=1)
    assert desk.asked == [PLATFORM]
    desk.clock.advance(REASK_S)
    await desk.take(bad=1)
    assert desk.asked == [PLATFORM, PLATFORM]
