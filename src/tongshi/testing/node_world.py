"""A platform whose nearest media node is not its own engine, with a camera: where tests of nodes begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tongshi._media import Engine
from tongshi.clock import Clock, SystemClock
from tongshi.gateways.media.engine import AsyncEngine
from tongshi.gateways.media.nodes.farm import Farm, FarmPlan, OwnAccount, ZlmAccount
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening, SessionView, Step, Transport
from tongshi.resources.viewing.nodes import NodeState, NodeView
from tongshi.resources.viewing.sessions import Wish
from tongshi.resources.viewing.tickets import Tickets
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import QUICK, PlatformPlan, SmallPlatform

PLATFORM, CITY = "31010100002000000001", "31000000002000000001"
CODE = "31010100001320000001"
ROW = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)
EXPIRE_S = 60  # that a machine is slow ends no session
PATIENT = replace(QUICK, answer_s=8.0, first_packet_s=8.0, first_key_frame_s=8.0, media_lost_s=8.0)


class Neighbourhood(Protocol):
    """Who starts platforms and cameras, and stops them (``tests/integration/conftest``)."""

    async def platform(self, plan: PlatformPlan) -> SmallPlatform: ...

    async def camera(self, platform: SmallPlatform, row: CameraPlan) -> Camera: ...

    async def known(self, platform: SmallPlatform, device_id: str) -> None: ...

    async def until(self, holds: Callable[[], bool]) -> None: ...


@dataclass
class NodeWorld:
    """The platform, and what a test looks at."""

    platform: SmallPlatform
    neighbourhood: Neighbourhood

    async def watch(self, *deliveries: Delivery, **wish: Any) -> Opening:
        """Open the camera's picture, as HTTP-FLV unless said otherwise."""
        ways = deliveries or (Delivery.HTTP_FLV,)
        asked = {"transport": Transport.UDP, "expire_s": EXPIRE_S, **wish}
        return await self.platform.viewing.watch(
            self.platform.viewer, Wish(DeviceId(CODE), deliveries=ways, **asked)
        )

    def seat(self) -> NodeView:
        """The node."""
        return self.platform.farm.nodes.views()[1]

    def view(self, opening: Opening) -> SessionView:
        return self.platform.viewing.session(self.platform.viewer, opening.view.session_id)

    async def until_ended(self, opening: Opening, reason: EndReason) -> None:
        await self.neighbourhood.until(lambda: self.view(opening).end_reason is reason)

    async def until_opened(self, opening: Opening) -> None:
        """Until its viewer was let in."""
        await self.neighbourhood.until(
            lambda: any(mark.step is Step.OPENED for mark in self.view(opening).marks)
        )


async def world_of(
    neighbourhood: Neighbourhood, account: OwnAccount | ZlmAccount, row: CameraPlan = ROW, **changes: Any
) -> NodeWorld:
    """Start the platform, let it see the node, and let it know the camera.

    Args:
        changes: of the platform's plan.
    """
    plan = {"farm": FarmPlan([account]), "timeouts": PATIENT, **changes}
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, **plan))
    await platform.farm.nodes.look_at_all()
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return NodeWorld(platform, neighbourhood)


async def trouble_of(account: OwnAccount, clock: Clock | None = None) -> str:
    """Why a node is lost after two looks, as the page of nodes says it; "" when it is not.

    Args:
        clock: the platform's.
    """

    def tickets() -> Tickets:
        raise AssertionError("nobody is let in")

    farm = Farm(AsyncEngine(Engine(), "127.0.0.1"), FarmPlan([account]), tickets, clock or SystemClock())
    for _ in range(2):
        await farm.nodes.look_at_all()
    view = farm.nodes.views()[1]
    await farm.stop()
    return view.trouble if view.state is NodeState.LOST else ""
