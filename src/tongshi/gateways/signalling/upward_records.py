"""Answering a platform above that asks what a device has recorded: the device is asked, the answer passed on.

Implements: GB/T 28181-2022 9.7
Implements: GB/T 28181-2022 Annex M
The upper must be allowed to play back the device; who may not gets the answer of who asks for what does not
exist. The query gets its 200 once the device is known to be reachable, the answer follows under the same SN.

IndistinctQuery 0 leaves the storage to the To header: our own code means the centre, the device's the device
(A.2.4.5). The centre is what this platform recorded itself, and what a lower platform keeps as its own;
IndistinctQuery 1 merges it with the device's, and RecordLocation says whose each file is. A device that does
not answer leaves the upper without an answer when the centre has nothing: "none" would be a lie, and this
command has no Result. Files that the device announced and never sent stay in SumNum, so that the upper sees
what is missing; so does one for a device that could not be asked.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from tongshi.errors import (
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TongshiError,
    Unavailable,
)
from tongshi.gateways.signalling.endpoint import IncomingRequest
from tongshi.gateways.signalling.ports import Archive
from tongshi.gateways.signalling.questions import Post
from tongshi.gateways.signalling.recorded_archive import platform_subject
from tongshi.gateways.signalling.routes import Routes
from tongshi.gateways.signalling.upward import Upper
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.catalogue import TCP_BODY_BYTES, UDP_BODY_BYTES
from tongshi.protocols.gb28181.records import RecordInfoQuery, paginate_records
from tongshi.resources.viewing.history import HistoryViewing
from tongshi.resources.viewing.ports import Viewer
from tongshi.resources.viewing.recordings import MAX_SEARCH, RecordLocation, Search, Window, timeline

log = structlog.get_logger(__name__)

MAX_ANSWERING = 64  # answers under way toward all uppers
PART_TRIES = 2


class UpwardRecords:
    """Answers RecordInfo queries of uppers."""

    def __init__(
        self, own_id: str, post: Post, archive: Archive, routes: Routes, history: HistoryViewing
    ) -> None:
        self._own_id = own_id
        self._post = post
        self._archive = archive
        self._routes = routes
        self._history = history
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, incoming: IncomingRequest, upper: Upper, query: RecordInfoQuery) -> None:
        """Answer one query: by its SIP status at once, and by messages of its own."""
        request = incoming.request
        viewer = Viewer(platform_subject(upper.id), incoming.remote.host, request.call_id[:64])
        try:
            if len(self._tasks) >= MAX_ANSWERING:
                raise LimitExceeded("应答中的录像检索过多", retry_after_s=5)
            search = self._search(query, request.to.uri.user)
            found = await self._archive.find_shared(upper.id, query.device_id)
            if found is None:
                raise NotFound("设备不存在")
            await self._history.admit(viewer, search.device_id, "cascade")
            await self._reach(search)
        except TongshiError as error:
            log.info("record_query_refused", platform_id=upper.id, device_id=query.device_id, code=error.code)
            incoming.respond(_status_of(error))
            return
        incoming.respond(200)
        task = asyncio.get_running_loop().create_task(self._answer(upper, query, search, found.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End all answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reach(self, search: Search) -> None:
        """Raises Unavailable: neither the device nor recordings of our own are there to answer from."""
        try:
            await self._routes.way_to(search.device_id)
        except Unavailable:
            if search.location is RecordLocation.DEVICE or not await self._history.has_own(search):
                raise

    def _search(self, query: RecordInfoQuery, to_id: str) -> Search:
        location = RecordLocation.AUTO
        if not query.indistinct:
            location = RecordLocation.CENTER if to_id == self._own_id else RecordLocation.DEVICE
        window = Window(query.start, query.end, query.kind).check(MAX_SEARCH)
        return Search(DeviceId(query.device_id), window, location)

    async def _answer(self, upper: Upper, query: RecordInfoQuery, search: Search, name: str) -> None:
        try:
            found = await self._history.find(search)
            known = timeline(search.window, found)
            missing = 0 if found.is_complete else max(1, found.announced - len(found.files))
            limit_bytes = UDP_BODY_BYTES if upper.remote.transport == "udp" else TCP_BODY_BYTES
            sum_num = len(known.files) + missing
            for part in paginate_records(
                known.files,
                query.sn,
                query.device_id,
                name,
                max_bytes=limit_bytes,
                edition=upper.profile.edition,
            ):
                await self._send(upper, msgspec.structs.replace(part, sum_num=sum_num))
        except TongshiError as error:
            log.warning("record_query_unanswered", platform_id=upper.id, error=error.message)
        except Exception:
            log.exception("record_answer_crashed")

    async def _send(self, upper: Upper, part: msgspec.Struct) -> None:
        """One part, again when it was not taken; the next waits for it (Annex M)."""
        for turn in range(PART_TRIES):
            try:
                status = await self._post.send(upper, part)  # type: ignore[arg-type]
            except TongshiError:
                if turn + 1 == PART_TRIES:
                    raise
                continue
            if 200 <= status < 300:
                return


def _status_of(error: TongshiError) -> int:
    """Not permitted looks like unknown; a device that is offline is temporarily unavailable."""
    if isinstance(error, NotFound | Forbidden):
        return 404
    if isinstance(error, InvalidRequest):
        return 400
    return 503 if isinstance(error, LimitExceeded) else 480
