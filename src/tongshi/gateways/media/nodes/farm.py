"""All media nodes of one platform, put together from its configuration: our own engine first, then others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tongshi.clock import Clock
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.own import OwnNode
from tongshi.gateways.media.nodes.pool import DEFAULT_CAPACITY, MediaNodes, Seat
from tongshi.gateways.media.nodes.zlmediakit.client import Client
from tongshi.gateways.media.nodes.zlmediakit.hooks import Hooks
from tongshi.gateways.media.nodes.zlmediakit.node import ZlmNode
from tongshi.resources.viewing.tickets import Tickets


@dataclass(frozen=True, slots=True)
class ZlmAccount:
    """A ZLMediaKit server: its HTTP interface with its secret, and where devices and viewers reach it."""

    name: str
    api: str
    secret: str
    media_host: str
    viewer_url: str
    places: tuple[str, ...] = ()
    capacity: int = DEFAULT_CAPACITY


@dataclass(frozen=True, slots=True)
class FarmPlan:
    """What the configuration says. ``hook_reach`` is where nodes reach our hooks; "" is ``hook_host``."""

    accounts: Sequence[ZlmAccount] = ()
    places: tuple[str, ...] = ()
    capacity: int = DEFAULT_CAPACITY
    hook_host: str = "127.0.0.1"
    hook_port: int = 0
    hook_reach: str = ""


class Farm:
    """The nodes with what they need to live; ``nodes`` is the engine port of viewing."""

    def __init__(
        self, engine: AsyncEngine, plan: FarmPlan, tickets: Callable[[], Tickets], clock: Clock
    ) -> None:
        self._hooks = Hooks(tickets, plan.hook_host, plan.hook_port, plan.hook_reach)
        self._others = [self._node(account, clock) for account in plan.accounts]
        seats = [Seat(OwnNode(engine), plan.places, plan.capacity)]
        for node, account in zip(self._others, plan.accounts, strict=True):
            self._hooks.add(node)
            seats.append(Seat(node, account.places, account.capacity, is_local=False))
        self.nodes = MediaNodes(seats, clock)

    async def start(self) -> None:
        """Listen for hooks when there is who calls them, and look at the nodes.

        Raises:
            OSError: the hooks' port is taken.
        """
        if self._others:
            await self._hooks.start()
        self.nodes.start()

    async def stop(self) -> None:
        """Let go of everything; streams were their holders' to close."""
        await self.nodes.stop()
        await self._hooks.stop()
        for node in self._others:
            await node.client.close()

    def _node(self, account: ZlmAccount, clock: Clock) -> ZlmNode:
        return ZlmNode(
            account.name,
            Client(account.api, account.secret),
            clock,
            media_host=account.media_host,
            viewer_url=account.viewer_url,
            hook_base=lambda: self._hooks.base(account.name),
        )
