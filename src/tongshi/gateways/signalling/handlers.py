"""Who serves what arrives at an endpoint: each request in a task of its own, and never too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from tongshi.errors import PeerTimeout, Unavailable
from tongshi.gateways.signalling.calls import IncomingInvite, IncomingRequest
from tongshi.gateways.signalling.subscription import IncomingSubscription

log = structlog.get_logger(__name__)


class Handlers:
    """Those of one endpoint. Whatever they do, what came in gets an answer; 503 beyond ``most`` at once."""

    def __init__(
        self,
        on_request: Callable[[IncomingRequest], Awaitable[None]],
        on_invite: Callable[[IncomingInvite], Awaitable[None]],
        on_subscribe: Callable[[IncomingSubscription], Awaitable[None]] | None,
        most: int,
    ) -> None:
        self._on_request = on_request
        self._on_invite = on_invite
        self._on_subscribe = on_subscribe
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def request(self, incoming: IncomingRequest) -> None:
        """A request outside calls, an INFO or a NOTIFY."""
        if len(self._tasks) >= self._most:
            incoming.respond(503, headers=(("Retry-After", "5"),))
            return
        self._spawn(self._serve_request(incoming))

    def invite(self, invite: IncomingInvite) -> None:
        """A new call."""
        if len(self._tasks) >= self._most:
            invite.reject(503, headers=(("Retry-After", "5"),))
            return
        self._spawn(self._serve_invite(invite))

    def subscribe(self, incoming: IncomingSubscription) -> None:
        """A new subscription; 489 when nobody takes any."""
        if self._on_subscribe is None:
            incoming.reject(489)
        elif len(self._tasks) >= self._most:
            incoming.reject(503)
        else:
            self._spawn(self._serve_subscribe(incoming, self._on_subscribe))

    async def stop(self) -> None:
        """End them all, but the one that asks for it."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_request(self, incoming: IncomingRequest) -> None:
        try:
            await self._on_request(incoming)
        except Exception:
            log.exception("sip_request_handler_failed", method=incoming.request.method)
        finally:
            if not incoming.is_answered:
                incoming.respond(500)

    async def _serve_invite(self, invite: IncomingInvite) -> None:
        try:
            await self._on_invite(invite)
        except (PeerTimeout, Unavailable) as error:
            log.info("sip_call_not_established", reason=error.message)
        except Exception:
            log.exception("sip_invite_handler_failed")
            invite.fail(500)
        finally:
            if not invite.is_answered:
                invite.reject(500)

    async def _serve_subscribe(
        self,
        incoming: IncomingSubscription,
        handler: Callable[[IncomingSubscription], Awaitable[None]],
    ) -> None:
        try:
            await handler(incoming)
        except Unavailable as error:
            log.info("sip_subscription_not_established", reason=error.message)
        except Exception:
            log.exception("sip_subscribe_handler_failed")
        finally:
            if not incoming.is_answered:
                incoming.reject(500)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
