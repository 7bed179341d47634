"""A media node that takes connections and does not answer: nobody waits for it longer than is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tongshi.gateways.media.nodes.farm import ZlmAccount
from tongshi.gateways.media.nodes.pool import LOOKS_TO_LOSE
from tongshi.gateways.media.nodes.remote import client as own_client
from tongshi.gateways.media.nodes.zlmediakit import client as zlm_client
from tongshi.resources.viewing.model import EndReason, Transport
from tongshi.resources.viewing.nodes import NodeState
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.node_world import CODE, NodeWorld, world_of
from tongshi.testing.stalling_proxy import Stall, StallingProxy
from tongshi.testing.viewer import watch_http
from tongshi.testing.zlmediakit import ZlmDouble

QUICK_S = 0.4  # instead of 3 s, once the node hangs
FAR_TOO_LONG_S = 10.0  # of a loaded machine, for what is bounded by the above; what hangs, hangs for minutes
HANGS = [Stall.SILENT, Stall.HEAD, Stall.DRIP, Stall.UNANSWERED]

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture
async def proxy(neighbourhood: Neighbourhood, node: NodeProcess) -> AsyncIterator[StallingProxy]:
    async with StallingProxy(node.control_port) as made:
        yield made
        await neighbourhood.close()  # the platform goes first


@pytest.fixture
async def world(neighbourhood: Neighbourhood, node: NodeProcess, proxy: StallingProxy) -> NodeWorld:
    account = replace(node.account(), api=f"http://127.0.0.1:{proxy.port}")
    return await world_of(neighbourhood, account)


async def lose(world: NodeWorld) -> None:
    async with asyncio.timeout(LOOKS_TO_LOSE * FAR_TOO_LONG_S):
        for _ in range(LOOKS_TO_LOSE):
            await world.platform.farm.nodes.look_at_all()
    assert world.seat().state is NodeState.LOST
    assert "规定时间内" in world.seat().trouble


@pytest.mark.parametrize("stall", HANGS)
async def test_a_hanging_node_is_passed_over_and_its_viewers_go_on_elsewhere_with_the_reason(
    world: NodeWorld, node: NodeProcess, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch, stall: Stall
) -> None:
    opening = await world.watch()
    assert opening.urls[0][1].startswith(node.viewer_url)
    watching = asyncio.create_task(watch_http(opening.urls[0][1], frames=10_000, timeout_s=60))
    await world.until_opened(opening)

    monkeypatch.setattr(own_client, "ANSWER_LIMIT_S", QUICK_S)
    proxy.stall = stall
    async with asyncio.timeout(FAR_TOO_LONG_S):
        other = await world.platform.farm.nodes.open("other", Transport.UDP, CODE)
    assert world.platform.engine.open_streams == 1
    assert "规定时间内" in world.seat().trouble
    await other.close()

    await lose(world)
    await world.until_ended(opening, EndReason.NODE_LOST)
    again = await world.watch()
    assert not again.urls[0][1].startswith(node.viewer_url)
    assert (await watch_http(again.urls[0][1], frames=2, timeout_s=10)).codec == "h264"

    monkeypatch.undo()
    proxy.stall = Stall.NONE
    await world.neighbourhood.until(lambda: world.seat().state is NodeState.ACTIVE)
    async with asyncio.timeout(15):  # the node is told to close what it still carries
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("stall", HANGS)
async def test_who_leaves_a_hanging_node_does_not_wait_for_it(
    world: NodeWorld, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch, stall: Stall
) -> None:
    opening = await world.watch()
    watching = asyncio.create_task(watch_http(opening.urls[0][1], frames=10_000, timeout_s=60))
    await world.until_opened(opening)
    monkeypatch.setattr(own_client, "ANSWER_LIMIT_S", QUICK_S)
    proxy.stall = stall
    viewing = world.platform.viewing
    async with asyncio.timeout(FAR_TOO_LONG_S):
        assert (await viewing.stop(world.platform.viewer, opening.view.session_id)).closed
        while len(viewing.streams):  # noqa: ASYNC110 - bounded, and there is no event to wait for
            await asyncio.sleep(0.02)
    monkeypatch.undo()
    proxy.stall = Stall.NONE
    async with asyncio.timeout(15):  # the node is told when it hears again
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("stall", HANGS)
async def test_a_zlmediakit_that_hangs_is_passed_over_and_what_it_opened_is_closed(
    neighbourhood: Neighbourhood, monkeypatch: pytest.MonkeyPatch, stall: Stall
) -> None:
    server = ZlmDouble()
    await server.start()
    async with StallingProxy(server.port) as proxy:
        api = f"http://127.0.0.1:{proxy.port}"
        account = ZlmAccount("zlm", api, server.secret, "127.0.0.1", server.url, ("310101",))
        world = await world_of(neighbourhood, account)
        monkeypatch.setattr(zlm_client, "ANSWER_LIMIT_S", QUICK_S)
        proxy.stall = stall
        async with asyncio.timeout(FAR_TOO_LONG_S):
            opening = await world.watch()
        assert not opening.urls[0][1].startswith(server.url)
        assert "规定时间内" in world.seat().trouble
        if stall is Stall.UNANSWERED:
            assert "openRtpServer" in server.commands
            await neighbourhood.until(lambda: "closeRtpServer" in server.commands)
        await lose(world)
        await neighbourhood.close()
    await server.stop()
