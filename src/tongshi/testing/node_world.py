"""A platform whose nearest media node is not its own engine, with a camera: where tests of nodes begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tongshi.gateways.media.nodes.farm import FarmPlan, OwnAccount, ZlmAccount
from tongshi.ids import DeviceId
from tongshi.resources.viewing.model import Delivery, EndReason, Opening, SessionView, Step, Transport
from tongshi.resources.viewing.nodes import NodeView
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM, CITY = "31010100002000000001", "31000000002000000001"
CODE = "31010100001320000001"
ROW = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)
EXPIRE_S = 60  # that a machine is slow ends no session


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
    platform = await neighbourhood.platform(PlatformPlan(PLATFORM, farm=FarmPlan([account]), **changes))
    await platform.farm.nodes.look_at_all()
    await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return NodeWorld(platform, neighbourhood)
