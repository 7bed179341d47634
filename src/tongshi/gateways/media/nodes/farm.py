"""All media nodes of one platform, put together from its configuration: our own engine first, then others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tongshi.clock import Clock
from tongshi.exchange.signing import Signer
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.own import OwnNode
from tongshi.gateways.media.nodes.pool import DEFAULT_CAPACITY, MediaNodes, Seat
from tongshi.gateways.media.nodes.remote.client import Client
from tongshi.gateways.media.nodes.remote.node import RemoteNode
from tongshi.gateways.media.nodes.zlmediakit.client import Client as ZlmClient
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
class OwnAccount:
    """A ``tongshi media-node``: where it is commanded, the secret it shares with us, and our name there.

    ``ca``: the file of certificates that prove it where it is commanded by ``https``.
    """

    name: str
    api: str
    secret: str
    media_host: str
    viewer_url: str
    places: tuple[str, ...] = ()
    capacity: int = DEFAULT_CAPACITY
    platform_id: str = ""
    rtsp_url: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class FarmPlan:
    """What the configuration says. ``hook_reach`` is where nodes reach our hooks; "" is ``hook_host``."""

    accounts: Sequence[ZlmAccount | OwnAccount] = ()
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
        self._engine, self._tickets, self._clock = engine, tickets, clock
        self._owner = secrets.token_hex(16)  # a node ends what an earlier process of ours opened
        self._servers: list[ZlmNode] = []
        self._remotes: list[RemoteNode] = []
        seats = [Seat(OwnNode(engine), plan.places, plan.capacity)]
        for account in plan.accounts:
            node = self._node(account)
            seats.append(Seat(node, account.places, account.capacity, is_local=False))
        self.nodes = MediaNodes(seats, clock)

    async def start(self) -> None:
        """Listen for hooks when there is who calls them, and look at the nodes.

        Raises:
            OSError: the hooks' port is taken.
        """
        if self._servers:
            await self._hooks.start()
        for node in self._remotes:
            node.start()
        self.nodes.start()

    async def stop(self) -> None:
        """Let go of everything; streams were their holders' to close."""
        await self.nodes.stop()
        await self._hooks.stop()
        for server in self._servers:
            await server.client.close()
        for node in self._remotes:
            await node.stop()

    def _node(self, account: ZlmAccount | OwnAccount) -> ZlmNode | RemoteNode:
        if isinstance(account, OwnAccount):
            signer = Signer(account.platform_id, account.secret, account.name, self._clock)
            remote = RemoteNode(
                account.name,
                Client(account.api, signer, self._owner, self._clock, account.ca),
                self._engine,
                self._tickets,
                media_host=account.media_host,
                viewer_url=account.viewer_url,
                rtsp_url=account.rtsp_url,
            )
            self._remotes.append(remote)
            return remote
        server = ZlmNode(
            account.name,
            ZlmClient(account.api, account.secret),
            self._clock,
            self._engine,
            media_host=account.media_host,
            viewer_url=account.viewer_url,
            hook_base=lambda: self._hooks.base(account.name),
        )
        self._servers.append(server)
        self._hooks.add(server)
        return server
