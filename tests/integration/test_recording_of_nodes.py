"""A live stream of another node is recorded, and made a still of, through a copy at our own engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tongshi.gateways.media.nodes.farm import FarmPlan, OwnAccount, ZlmAccount
from tongshi.gateways.media.nodes.local_copy import LocalCopy
from tongshi.ids import DeviceId
from tongshi.protocols.media.program_stream import PackReader
from tongshi.resources.recordings import store
from tongshi.resources.recordings.model import GapReason, Rule, Segment, SegmentState
from tongshi.resources.viewing.sessions import Wish
from tongshi.sharing.model import EVERYTHING
from tongshi.testing.node_process import NodeProcess
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform
from tongshi.testing.zlmediakit import ZlmDouble

PLATFORM, CODE = "31010100002000000001", "31010100001320000001"
RULE = Rule("0" * 16, device_id=CODE, retention_days=1)
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
ROW = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101", audio=True)

Neighbourhood = Any  # the class lives in conftest, which cannot be imported
Account = OwnAccount | ZlmAccount


@pytest.fixture
async def server(neighbourhood: Neighbourhood) -> AsyncIterator[ZlmDouble]:
    made = ZlmDouble()
    await made.start()
    yield made
    await neighbourhood.close()
    await made.stop()


async def watched(neighbourhood: Neighbourhood, account: Account) -> SmallPlatform:
    """A platform whose camera is being watched at its other node."""
    platform: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM, farm=FarmPlan([account])))
    await platform.farm.nodes.look_at_all()
    await neighbourhood.camera(platform, ROW)
    await neighbourhood.known(platform, CODE)
    await platform.viewing.watch(platform.viewer, Wish(DeviceId(CODE), expire_s=60))
    assert (platform.farm.nodes.views()[1].streams, platform.engine.open_streams) == (1, 0)
    return platform


async def whole(platform: SmallPlatform, count: int) -> list[Segment]:
    async with asyncio.timeout(20):
        while True:
            found = await platform.record.segments(CODE, *ALWAYS)
            if len(done := [one for one in found if one.state is SegmentState.WHOLE]) >= count:
                return done
            await asyncio.sleep(0.05)


async def recorded(neighbourhood: Neighbourhood, account: Account) -> None:
    platform = await watched(neighbourhood, account)
    still = await platform.viewing.still(platform.viewer, platform.viewing.streams.streams()[0].key, "test")
    assert still.startswith(b"\xff\xd8")
    await platform.db.write(store.put_rule, RULE, platform.clock.at())
    platform.recorder.changed()
    (segment, *_) = await whole(platform, 1)
    assert (segment.video, segment.audio) == ("h264", "g711a")
    data = await asyncio.to_thread(platform.shelves.path_of(segment).read_bytes)
    reader = PackReader()
    packs = reader.feed(data) + reader.finish()
    assert packs[0].is_key
    assert len(packs) > 10
    assert (platform.farm.nodes.views()[1].streams, platform.engine.open_streams) == (1, 1)
    await platform.db.write(store.drop_rule, RULE.id)
    platform.recorder.changed()
    await neighbourhood.until(lambda: not platform.recorder.states())
    await neighbourhood.until(lambda: platform.engine.open_streams == 0)
    assert platform.farm.nodes.views()[1].streams == 1


async def test_a_stream_of_a_node_in_another_process_is_recorded(
    neighbourhood: Neighbourhood, mortal: NodeProcess
) -> None:
    await recorded(neighbourhood, mortal.account())


async def test_a_stream_of_a_zlmediakit_is_recorded(neighbourhood: Neighbourhood, server: ZlmDouble) -> None:
    account = ZlmAccount("zlm", server.url, server.secret, "127.0.0.1", server.url, ("310101",))
    await recorded(neighbourhood, account)
    assert server.commands.count("startSendRtp") == server.commands.count("stopSendRtp") >= 1


async def test_a_recording_goes_on_elsewhere_when_its_node_is_killed_and_names_the_gap(
    neighbourhood: Neighbourhood, mortal: NodeProcess
) -> None:
    platform = await watched(neighbourhood, mortal.account())
    await platform.db.write(store.put_rule, RULE, platform.clock.at())
    platform.recorder.changed()
    await whole(platform, 1)
    mortal.kill()
    for _ in range(2):
        await platform.farm.nodes.look_at_all()
    before = len(await platform.record.segments(CODE, *ALWAYS))
    await whole(platform, before + 1)
    found = await platform.db.read(store.gaps, EVERYTHING, CODE, ALWAYS, 100)
    assert GapReason.MEDIA_LOST in {gap.reason for gap in found}


async def test_a_node_that_sends_nothing_refuses_with_a_reason(
    neighbourhood: Neighbourhood, server: ZlmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tongshi.gateways.media.nodes.local_copy.PICTURE_LIMIT_S", 0.2)
    account = ZlmAccount("zlm", server.url, server.secret, "127.0.0.1", server.url, ("310101",))
    platform = await watched(neighbourhood, account)

    class Silent:
        async def relay(self, *_: Any) -> tuple[int, int]:
            return 1, 1

        async def drop_relay(self, relay: int) -> None:
            return

    copy = LocalCopy(platform.engine, Silent(), "silent")
    with pytest.raises(Exception, match="没有转来可用的视频"):
        await copy.group_of_pictures()
    assert platform.engine.open_streams == 0
