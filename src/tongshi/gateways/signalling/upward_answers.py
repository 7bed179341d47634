"""Answering a platform above: catalogue, device information, device status.

Implements: GB/T 28181-2022 9.5
The query gets its 200 at once, the answer follows as messages of its own.
"""

from __future__ import annotations

import asyncio

import structlog

from tongshi.clock import BEIJING, Clock
from tongshi.errors import RemoteViolation, TongshiError
from tongshi.gateways.signalling.background import Background
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.upward import Upper
from tongshi.gateways.signalling.upward_catalogue import UpwardCatalogue, check_times
from tongshi.protocols.gb28181.dates import render_time
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.protocols.gb28181.query import CatalogQuery, DeviceInfoQuery, DeviceStatusQuery
from tongshi.protocols.gb28181.response import DeviceInfoResponse, DeviceStatusResponse
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus

log = structlog.get_logger(__name__)

MAX_ANSWERING = 64  # answers under way toward all uppers: a flood of queries waits for none of them
TRIES = 2


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
        self._catalogues = UpwardCatalogue(own, post, archive)
        self._background = Background("upwardAnswers")
        self._answering: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def take(self, upper: Upper, query: CatalogQuery | DeviceInfoQuery | DeviceStatusQuery) -> int:
        """Begin to answer. Returns the SIP status of the query itself: 200, 404 unknown, 503 too busy."""
        if len(self._background) >= MAX_ANSWERING:
            return 503
        if isinstance(query, CatalogQuery):
            return await self._catalogue(upper, query)
        answer = await self._about(upper, query)
        if answer is None:
            return 404
        self._background.begin(self._send(upper, answer))
        return 200

    async def stop(self) -> None:
        """End all answers."""
        await self._background.stop()

    async def _catalogue(self, upper: Upper, query: CatalogQuery) -> int:
        """An answer under way to the same question gives way: who asks again does not want the first."""
        try:
            check_times(query)
        except RemoteViolation:
            return 400
        if query.device_id == self._own.device_id:
            # That is known without a look; choosing among very many takes longer than a 200 may.
            answering = self._whole(upper, query)
        else:
            chosen = await self._catalogues.choose(upper, query)
            if not chosen.is_known:
                return 404
            answering = self._catalogues.send(upper, query, chosen)
        key = (upper.id, query.device_id)
        former = self._answering.get(key)
        if former is not None:
            former.cancel()
        task = self._answering[key] = self._background.begin(answering)
        task.add_done_callback(lambda done: self._over(key, done))
        return 200

    async def _whole(self, upper: Upper, query: CatalogQuery) -> None:
        await self._catalogues.send(upper, query, await self._catalogues.choose(upper, query))

    def _over(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._answering.get(key) is task:
            del self._answering[key]

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
        for turn in range(TRIES):
            try:
                status = await self._post.send(upper, answer)
            except TongshiError:
                if turn + 1 == TRIES:
                    raise
                continue
            if 200 <= status < 300:
                return


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
