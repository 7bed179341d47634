"""``tongshi bench sip --catalogue N``: a large catalogue taken in from below and told to above.

Once over TCP and once over UDP with a twentieth of the datagrams lost each way, each time with a platform of
its own. The simulated neighbours lose in their sockets; the platform does not know. Taken in means proved
complete and stored.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from typing import Any

import uvloop

from tongshi.bench.sip_platform import HOST, PLATFORM, SECRET, Running, Setup, child, cpu_s, platform
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.sending_window import WIDEST
from tongshi.testing.defects import Defects
from tongshi.testing.lower_platform import LowerPlan, LowerPlatform
from tongshi.testing.many_channels import ManyChannels
from tongshi.testing.upper_platform import UpperPlatform

LOWER, UPPER = "31010400002000000001", "31000000002000000009"
LOSS = 0.05
GOAL_TCP_S = 60
LIMIT_S = 900.0
WINDOW = WIDEST


def run(channels: int, transports: tuple[str, ...] = ("tcp", "udp")) -> dict[str, object]:
    """Both transports, both directions."""
    cores = sorted(os.sched_getaffinity(0))
    found: dict[str, object] = {"channels": channels, "goal_tcp_s": GOAL_TCP_S, "loss_udp": LOSS}
    for transport in transports:
        os.sched_setaffinity(0, {cores[-1]})
        try:
            found[transport] = uvloop.run(_measure(channels, transport, cores[0]))
        finally:
            os.sched_setaffinity(0, set(cores))
    return found


async def _measure(channels: int, transport: str, core: int) -> dict[str, object]:
    loss = LOSS if transport == "udp" else 0.0
    upper = UpperPlatform(UPPER, SECRET, allow_tcp=transport == "tcp", loss=loss)
    await upper.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(lowers=(LOWER,), uppers=((UPPER, upper.port),))
            with child(platform, core, folder, setup) as running:
                return {
                    "taken_in": await _take_in(running, channels, transport, loss),
                    "told": await _tell(running, upper),
                }
    finally:
        await upper.stop()


async def _take_in(running: Running, channels: int, transport: str, loss: float) -> dict[str, object]:
    """From the registration of the lower platform to the proof."""
    server = Remote(HOST, running.port, "tcp" if transport == "tcp" else "udp")
    before = running.figures()
    plan = LowerPlan(
        ManyChannels(LOWER, channels), PLATFORM, server, SECRET, window=WINDOW, defects=Defects(loss=loss)
    )
    lower = LowerPlatform(plan)
    began, cpu_began = time.time(), cpu_s(running.pid)
    await lower.start()
    try:
        figures, most = before, before["memory_mib"]
        while figures["state"] in ("", "asking") or (
            figures["state"] == "incomplete" and figures["asked"] < 3
        ):
            if time.time() - began > LIMIT_S:
                break
            await asyncio.sleep(0.2)
            figures = await asyncio.to_thread(running.figures)
            most = max(most, figures["memory_mib"])
        return {
            "state": figures["state"],
            "reason": figures["reason"],
            "items": figures["received"],
            "asked": figures["asked"],
            "messages": lower.parts,
            "wall_s": round(figures["at"] - began, 1),
            "platform_cpu_s": round(cpu_s(running.pid) - cpu_began, 1),
            "memory_mib_before": before["memory_mib"],
            "memory_mib_most": most,
        }
    finally:
        await lower.stop()


async def _tell(running: Running, upper: UpperPlatform) -> dict[str, object]:
    await upper.until(lambda: PLATFORM in upper.registered, 60.0)
    before, cpu_began = running.figures(), cpu_s(running.pid)
    asking = asyncio.ensure_future(upper.ask_catalogue(PLATFORM, total_s=LIMIT_S))
    most = before["memory_mib"]
    while not asking.done():
        await asyncio.wait((asking,), timeout=0.5)
        most = max(most, (await asyncio.to_thread(running.figures))["memory_mib"])
    told = await asking
    row: dict[str, Any] = {
        "state": told.state,
        "items": told.distinct,
        "announced": told.announced,
        "messages": told.parts,
        "by_tcp": told.by_tcp,
        "largest_message": told.largest_part,
        "wall_s": round(told.wall_s, 1),
        "platform_cpu_s": round(cpu_s(running.pid) - cpu_began, 1),
        "memory_mib_before": before["memory_mib"],
        "memory_mib_most": most,
    }
    return row
