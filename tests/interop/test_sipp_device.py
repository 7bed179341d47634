"""SIPp plays devices against a platform of ours; both sides say what they saw."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tongshi.errors import PeerTimeout
from tongshi.ids import DeviceId
from tongshi.resources.viewing.sessions import Wish
from tongshi.testing.small_platform import SmallPlatform

PLATFORM, DEVICE, SECRET = "31010100002000000001", "31010100001320000101", "gb-2022"
STORM = 300

Sipp = Any  # the class lives in conftest, which cannot be imported


def row(code: str, secret: str = SECRET) -> str:
    """One device of the scenarios: its code, credentials, the platform and its domain."""
    return f"{code};[authentication username={code} password={secret}];{PLATFORM};{PLATFORM[:10]}"


async def until(holds: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # what is awaited happens in another process
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_a_device_registers_beats_is_asked_and_deregisters(
    platform: SmallPlatform, sipp: Sipp, transport: str
) -> None:
    running = await sipp.begin(
        "device",
        to=platform.gateway.port,
        rows=[row(DEVICE)],
        out_of_call="device_asked",
        pause_ms=2000,
        transport=transport,
    )
    await until(lambda: DEVICE in platform.gateway.peers)
    peer = platform.gateway.peers.get(DEVICE)
    assert peer is not None
    assert peer.remote.transport == ("udp" if transport == "u1" else "tcp")
    await until(lambda: platform.gateway._routes.channels_of(DEVICE) == (DEVICE,))
    archive = await platform.devices.find(DEVICE)
    assert archive is not None
    assert archive.item.name == f"SIPp {DEVICE}"
    run = await running.end()
    assert (run.status, run.errors) == (0, "")
    assert "Digest username" in run.messages
    assert DEVICE not in platform.gateway.peers


async def test_a_called_device_that_sends_no_picture_is_hung_up_on_and_named(
    platform: SmallPlatform, sipp: Sipp
) -> None:
    running = await sipp.begin(
        "device",
        to=platform.gateway.port,
        rows=[row(DEVICE)],
        out_of_call="device_asked",
        pause_ms=4000,
    )
    await until(lambda: platform.gateway._routes.channels_of(DEVICE) == (DEVICE,))
    with pytest.raises(PeerTimeout) as refusal:
        await platform.viewing.watch(platform.viewer, Wish(device_id=DeviceId(DEVICE), expire_s=5))
    assert refusal.value.code == 50402  # answered, and nothing came
    run = await running.end()
    assert (run.status, run.errors) == (0, "")
    assert "INVITE sip:" in run.messages
    assert "BYE sip:" in run.messages
    assert platform.gateway._ssrcs.in_use == 0


async def test_a_wrong_secret_is_refused_with_403(platform: SmallPlatform, sipp: Sipp) -> None:
    running = await sipp.begin("device_refused", to=platform.gateway.port, rows=[row(DEVICE, "wrong")])
    run = await running.end()
    assert (run.status, run.errors) == (0, "")
    assert DEVICE not in platform.gateway.peers
    assert platform.gateway.admission.ban_table.total == 1


async def test_a_storm_of_registrations_is_taken_whole(platform: SmallPlatform, sipp: Sipp) -> None:
    codes = [f"{DEVICE[:14]}{number:06d}" for number in range(1, STORM + 1)]
    running = await sipp.begin(
        "device",
        to=platform.gateway.port,
        rows=[row(code) for code in codes],
        calls=STORM,
        rate=200,
        out_of_call="device_asked",
        pause_ms=5000,
    )
    await until(lambda: len(platform.gateway.peers) == STORM, 30.0)
    assert set(platform.gateway.peers.ids()) == set(codes)
    await until(lambda: all(platform.gateway._routes.channels_of(code) for code in codes), 30.0)
    run = await running.end()
    assert (run.status, run.errors) == (0, "")
    assert len(platform.gateway.peers) == 0
