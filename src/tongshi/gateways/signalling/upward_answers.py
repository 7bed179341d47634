"""Answering a platform above: catalogue, device information, device status.

Implements: GB/T 28181-2022 9.5
Implements: GB/T 28181-2022 Annex J
Implements: GB/T 28181-2022 Annex M
The query gets its 200 at once, the answer follows as messages of its own; a part is sent only after the 200
of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

import structlog

from tongshi.clock import BEIJING, Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES, paginate
from tongshi.protocols.gb28181.codes import ItemKind, kind_of
from tongshi.protocols.gb28181.dates import render_time
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import DeviceInfoResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus

log = structlog.get_logger(__name__)

MAX_ANSWERING = 64  # answers under way toward all uppers: a flood of queries waits for none of them
ITEMS_PER_MESSAGE = 100
PART_TRIES = 2


class UpwardAnswers:
    """Answers queries of uppers.

    Args:
        own: our own item, the first of every catalogue.
    """

    def __init__(self, own: CatalogItem, post: Post, archive: Archive, clock: Clock) -> None:
        self._own = own
        self._post = post
        self._archive = archive
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, upper: Upper, query: CatalogQuery | DeviceInfoQuery | DeviceStatusQuery) -> int:
        """Begin to answer. Returns the SIP status of the query itself: 200, 404 unknown, 503 too busy."""
        if len(self._tasks) >= MAX_ANSWERING:
            return 503
        if isinstance(query, CatalogQuery):
            items = await self._items_for(upper, query.device_id)
            if not items:
                return 404
            self._begin(self._send_catalogue(upper, query, items))
            return 200
        answer = await self._about(upper, query)
        if answer is None:
            return 404
        self._begin(self._send(upper, answer))
        return 200

    async def stop(self) -> None:
        """End all answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _items_for(self, upper: Upper, device_id: str) -> list[CatalogItem]:
        """Annex J: by our code all, by a division what lies in it, by any other what hangs below it."""
        shared = await self._archive.shared_with(upper.id)
        nodes = await self._archive.shared_nodes(upper.id)
        if device_id == self._own.device_id:
            return [self._own, *nodes, *shared]
        if kind_of(device_id) is ItemKind.DIVISION:
            inside = [node for node in nodes if kind_of(node.device_id) is ItemKind.DIVISION]
            return [
                *(node for node in inside if node.device_id.startswith(device_id)),
                *(item for item in shared if item.civil_code.startswith(device_id)),
            ]
        below = _below(device_id, nodes)
        return [
            *(node for node in nodes if node.device_id in below),
            *(i for i in shared if i.device_id in below or not below.isdisjoint(i.parent_ids)),
        ]

    async def _send_catalogue(self, upper: Upper, query: CatalogQuery, items: list[CatalogItem]) -> None:
        limit_bytes = UDP_BODY_BYTES if upper.remote.transport == "udp" else TCP_BODY_BYTES
        edition = upper.profile.edition
        parts = paginate(items, query.sn, query.device_id, ITEMS_PER_MESSAGE, limit_bytes, edition)
        for part in parts:
            await self._send(upper, part)
        log.info("catalogue_answered", platform_id=upper.id, items=len(items))

    async def _about(
        self, upper: Upper, query: DeviceInfoQuery | DeviceStatusQuery
    ) -> DeviceInfoResponse | DeviceStatusResponse | None:
        if query.device_id == self._own.device_id:
            name, maker, model, online = self._own.name, self._own.manufacturer, self._own.model, True
        else:
            found = await self._archive.find_shared(upper.id, query.device_id)
            if found is None:
                return None
            name, maker, model, online = found.name, found.manufacturer, found.model, bool(found.online)
        if isinstance(query, DeviceInfoQuery):
            return DeviceInfoResponse(
                query.sn, query.device_id, device_name=name, manufacturer=maker, model=model
            )
        return DeviceStatusResponse(
            query.sn,
            query.device_id,
            online=online,
            status_ok=online,
            reason="" if online else "offline",
            device_time=render_time(self._clock.at().astimezone(BEIJING)),
        )

    async def _send(self, upper: Upper, answer: BaseMessage) -> None:
        for turn in range(PART_TRIES):
            try:
                status = await self._post.send(upper, answer)
            except TongshiError:
                if turn + 1 == PART_TRIES:
                    raise
                continue
            if 200 <= status < 300:
                return

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except TongshiError as error:
            log.warning("answer_not_delivered", error=error.message)
        except Exception:
            log.exception("answer_crashed")


def _below(top: str, nodes: Sequence[CatalogItem]) -> set[str]:
    """A node and those that hang below it; parents stand before their children."""
    below = {top}
    for node in nodes:
        if node.business_group_id in below or not below.isdisjoint(node.parent_ids):
            below.add(node.device_id)
    return below


def own_item(platform_id: str, name: str, civil_code: str) -> CatalogItem:
    """This platform as the first item of its catalogue: a system, with the fields of Annex J."""
    return CatalogItem(
        device_id=platform_id,
        name=name,
        manufacturer="Tongshi",
        model="Tongshi",
        civil_code=civil_code,
        address=name,
        status=DeviceStatus.ON,
    )
