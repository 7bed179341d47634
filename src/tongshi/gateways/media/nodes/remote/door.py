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
from tongshi.resources.viewing.ports import Ingest, Spool

ASK_LIMIT_S = 3.0
MAX_QUESTIONS = 1_000
MAX_TICKET = 128
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
    is_sound_alone: bool
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
        carried = self._station.find(stream_id)
        if not ticket or len(ticket) > MAX_TICKET:
            raise Unauthenticated("播放凭据无效")
        if len(self._questions) >= MAX_QUESTIONS:
            raise LimitExceeded("请求过于频繁", retry_after_s=1)
        self._numbers += 1
        number, session_id = self._numbers, secrets.token_hex(16)
        if not is_lasting:
            carried.guests[number] = Guest(session_id, ticket, client_host)
        try:
            reply = await self._ask(
                number, stream_id, ticket, client_host, is_lasting=is_lasting, container=container
            )
        except BaseException:
            carried.guests.pop(number, None)
            self._station.tell(NewsKind.LEFT, stream_id, number, "no answer")
            raise
        if reply.status:
            carried.guests.pop(number, None)
            raise _error(reply)
        return NodeAdmission(carried, number, session_id, ticket, reply.is_sound_alone)

    def answered(self, reply: Reply) -> None:
        """The platform answered. Raises NotFound: nobody waits for it any more (40404)."""
        question = self._questions.pop(reply.id, None)
        if question is None or question.done():
            raise NotFound("没有这个问题", code=40404)
        question.set_result(reply)

    def ingest_of(self, admission: NodeAdmission) -> Ingest:
        """The receiving end behind an admitted request."""
        return admission.carried.ingest

    def is_over(self, admission: NodeAdmission) -> bool:
        """Not known here: the platform closes a stream that has ended, and then nothing of it is left."""
        return False

    def add_bytes(self, admission: NodeAdmission, sent: int) -> None:
        """An admitted request of a lasting session was answered with so much."""
        name, ticket = admission.carried.name, admission.ticket
        self._station.tell(NewsKind.SENT, name, admission.number, size=sent, ticket=ticket)

    async def serve(
        self, admission: NodeAdmission, container: str, fd: int, head: bytes, dialogue: str = ""
    ) -> None:
        """Hand an admitted viewer's socket to the engine, which owns it from here on."""
        if not self._begin(admission):
            os.close(fd)
            raise Gone("播放凭据已使用或已过期", code=41002)

        def left(reason: str) -> None:
            self._left(admission, reason)

        if admission.is_sound_alone:
            container = f"{container}-audio"
        try:
            viewer = await admission.carried.ingest.attach(container, fd, head, left, dialogue)
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

    async def _ask(
        self, number: int, stream: str, ticket: str, client: str, *, is_lasting: bool, container: str
    ) -> Reply:
        question: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._questions[number] = question
        self._station.tell(
            NewsKind.ASK,
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
