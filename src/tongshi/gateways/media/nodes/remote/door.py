"""The node's end: who lets viewers in at the node's own listener. The platform is asked about each.

A viewer of a stream that is not here is refused without a question. What the platform does not answer in
time is refused, and it is told that the viewer left, in case that it had let him in.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass

from tongshi.errors import (
    Forbidden,
    Gone,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    TongshiError,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)
from tongshi.gateways.media.nodes.remote.station import Carried, Guest, Station
from tongshi.gateways.media.nodes.remote.wire import NewsKind, Reply
from tongshi.resources.viewing.media_ports import Datagrams, Ingest, Spool

ASK_LIMIT_S = 3.0
MAX_QUESTIONS = 1_000
MAX_TICKET = 128
AGAIN_S = 0.1  # who waited longer for a part may have lost his right meanwhile
_ERRORS: tuple[type[TongshiError], ...] = (
    Unauthenticated,
    Forbidden,
    NotFound,
    Gone,
    Unprocessable,
    LimitExceeded,
)


@dataclass(frozen=True, slots=True)
class NodeAdmission:
    """A viewer's request that the platform said yes to."""

    carried: Carried
    number: int
    session_id: str
    ticket: str
    client: str
    asked_at: float
    is_sound_alone: bool = False
    is_over: bool = False  # what the platform said of the stream when it let him in
    file_name: str = ""  # nothing is downloaded from a node


class NodeDoor:
    """``gateways.media.door.Door`` of a node."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._numbers = 0
        self._questions: dict[int, asyncio.Future[Reply]] = {}

    async def enter(
        self,
        stream_id: str,
        ticket: str,
        client_host: str,
        *,
        is_lasting: bool = False,
        container: str = "",
    ) -> NodeAdmission:
        """See ``Tickets.admit``; also Unavailable: the platform does not answer."""
        carried = self._station.find_kept(stream_id) if is_lasting else self._station.find(stream_id)
        number, session_id = self._new_number(ticket), secrets.token_hex(16)
        if not is_lasting:
            carried.guests[number] = Guest(session_id, ticket, client_host)
        try:
            reply = await self._ask(
                NewsKind.ASK,
                number,
                stream_id,
                ticket,
                client_host,
                is_lasting=is_lasting,
                container=container,
            )
        except BaseException:
            carried.guests.pop(number, None)
            self._station.tell(NewsKind.LEFT, stream_id, number, "no answer")
            raise
        if reply.status:
            carried.guests.pop(number, None)
            raise _error(reply)
        carried.is_lasting |= is_lasting
        asked_at = asyncio.get_running_loop().time()
        return NodeAdmission(
            carried, number, session_id, ticket, client_host, asked_at, reply.is_sound_alone, reply.is_over
        )

    async def inspect(self, stream_id: str, ticket: str, client_host: str) -> None:
        """See ``Tickets.check``; also Unavailable: the platform does not answer."""
        self._station.find(stream_id)
        number = self._new_number(ticket)
        reply = await self._ask(NewsKind.CHECK, number, stream_id, ticket, client_host)
        if reply.status:
            raise _error(reply)

    def answered(self, reply: Reply) -> None:
        """The platform answered. Raises NotFound: nobody waits for it any more (40404)."""
        question = self._questions.pop(reply.id, None)
        if question is None or question.done():
            raise NotFound("没有这个问题", code=40404)
        question.set_result(reply)

    def ingest_of(self, admission: NodeAdmission) -> Ingest:
        """The receiving end behind an admitted request."""
        return admission.carried.ingest

    async def is_over(self, admission: NodeAdmission) -> bool:
        """Whether the stream ended in order; the platform is asked again when that may have changed since.

        Raises:
            As ``enter``: the session itself ended since.
        """
        is_fresh = asyncio.get_running_loop().time() - admission.asked_at < AGAIN_S
        if is_fresh and (admission.is_over or self._station.is_open(admission.carried)):
            return admission.is_over
        again = await self.enter(admission.carried.name, admission.ticket, admission.client, is_lasting=True)
        return again.is_over

    def add_bytes(self, admission: NodeAdmission, sent: int) -> None:
        """An admitted request of a lasting session was answered with so much."""
        name, ticket = admission.carried.name, admission.ticket
        self._station.tell(NewsKind.SENT, name, admission.number, size=sent, ticket=ticket)

    async def serve(
        self,
        admission: NodeAdmission,
        container: str,
        fd: int,
        head: bytes,
        dialogue: str = "",
        datagrams: Datagrams | None = None,
    ) -> None:
        """Hand an admitted viewer's sockets to the engine, which owns them from here on."""
        if not self._begin(admission):
            for one in (fd, *(datagrams or Datagrams()).descriptors):
                os.close(one)
            raise Gone("播放凭据已使用或已过期", code=41002)

        def left(reason: str) -> None:
            self._left(admission, reason)

        if admission.is_sound_alone:
            container = f"{container}-audio"
        try:
            viewer = await admission.carried.ingest.attach(container, fd, head, left, dialogue, datagrams)
        except BaseException:
            left("failed")
            raise
        await self._attached(admission, viewer)

    async def connect(self, admission: NodeAdmission, offer: str) -> str:
        """Serve an admitted viewer by WebRTC; a refused offer gives his ticket back."""

        def left(reason: str) -> None:
            self._left(admission, reason)

        if not self._begin(admission):
            raise Gone("播放凭据已使用或已过期", code=41002)
        try:
            viewer, answer = await admission.carried.ingest.answer(offer, left)
        except (InvalidRequest, Unprocessable) as error:
            self._forget(admission)
            words = error.message
            self._station.tell(NewsKind.RETURNED, admission.carried.name, admission.number, words)
            raise
        except BaseException:
            left("failed")
            raise
        await self._attached(admission, viewer)
        return answer

    def leave(self, stream_id: str, session_id: str, ticket: str, client_host: str) -> None:
        """The viewer says that he is gone. Raises NotFound: no running session of his (40404)."""
        carried, who = self._station.find(stream_id), (session_id, ticket, client_host)
        for number, guest in carried.guests.items():
            if (guest.session_id, guest.ticket, guest.client) == who:
                self._station.spawn(self._leave(carried, number))
                return
        raise NotFound("没有这个会话", code=40404)

    def download(self, admission: NodeAdmission) -> Spool:
        """Raises NotFound: a node has no downloads."""
        self._left(admission, "no download")
        raise NotFound("没有这个下载", code=40404)

    def delivered(self, admission: NodeAdmission, sent: int, *, is_whole: bool) -> None:
        """Nothing: see ``download``."""

    def _new_number(self, ticket: str) -> int:
        """The number of a question. Raises Unauthenticated: no ticket. LimitExceeded: too many at once."""
        if not ticket or len(ticket) > MAX_TICKET:
            raise Unauthenticated("播放凭据无效")
        if len(self._questions) >= MAX_QUESTIONS:
            raise LimitExceeded("请求过于频繁", retry_after_s=1)
        self._numbers += 1
        return self._numbers

    async def _ask(
        self,
        kind: NewsKind,
        number: int,
        stream: str,
        ticket: str,
        client: str,
        *,
        is_lasting: bool = False,
        container: str = "",
    ) -> Reply:
        question: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._questions[number] = question
        self._station.tell(
            kind,
            stream,
            number,
            ticket=ticket,
            client=client,
            is_lasting=is_lasting,
            container=container,
        )
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                return await question
        except TimeoutError as error:
            raise Unavailable("平台没有应答，请重新打开", code=50302, retry_after_s=2) from error
        finally:
            self._questions.pop(number, None)

    async def _attached(self, admission: NodeAdmission, viewer: int) -> None:
        """The engine has him; the platform may have ended him meanwhile."""
        guest = admission.carried.guests.get(admission.number)
        if guest is None:
            await admission.carried.ingest.detach(viewer)
        else:
            guest.viewer = viewer
            guest.settled.set()

    def _begin(self, admission: NodeAdmission) -> bool:
        """He is about to be served; False when the platform has ended him before."""
        guest = admission.carried.guests.get(admission.number)
        if guest is not None:
            guest.is_serving = True
        return guest is not None

    def _forget(self, admission: NodeAdmission) -> bool:
        """He is no guest any more; False when he was none."""
        guest = admission.carried.guests.pop(admission.number, None)
        if guest is not None:
            guest.settled.set()
        return guest is not None

    def _left(self, admission: NodeAdmission, reason: str) -> None:
        if self._forget(admission):
            self._station.tell(NewsKind.LEFT, admission.carried.name, admission.number, reason)

    async def _leave(self, carried: Carried, number: int) -> None:
        sent = await self._station.detach(carried.name, number)
        self._station.tell(NewsKind.LEFT, carried.name, number, "said so", size=sent)


def _error(reply: Reply) -> TongshiError:
    """The platform's refusal, with its own status and number."""
    for kind in _ERRORS:
        if kind.http_status == reply.status:
            return kind(reply.message, code=reply.code)
    return Unavailable(reply.message, code=50302)
