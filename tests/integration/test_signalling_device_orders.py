"""A platform asks and commands a camera over real sockets; what it did is seen in the camera."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tongshi.errors import Conflict, NotFound, PeerFailed, PeerTimeout, Unprocessable
from tongshi.gateways.signalling.device_orders import Waits
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.configuration import BasicParam, Configuration
from tongshi.protocols.gb28181.control_parts import PreciseView
from tongshi.protocols.gb28181.device_query import CruiseTrackListQuery
from tongshi.protocols.gb28181.device_response import (
    CardState,
    ConfigDownloadResponse,
    Preset,
    PresetResponse,
)
from tongshi.protocols.gb28181.profile import for_edition
from tongshi.protocols.gb28181.version import Edition
from tongshi.resources.control.service import Command, Order
from tongshi.resources.plans.members import Members
from tongshi.resources.status import store as status_store
from tongshi.resources.status.service import DeviceStatuses
from tongshi.resources.viewing.ptz import Command as Ptz
from tongshi.resources.viewing.ptz import Turn
from tongshi.sharing.model import EVERYTHING, Subject, SubjectKind
from tongshi.testing.camera import Camera
from tongshi.testing.plan import CameraPlan
from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

PLATFORM, CODE = "31010100002000000001", DeviceId("31010100001320000001")
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture
async def platform(neighbourhood: Neighbourhood) -> SmallPlatform:
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(PLATFORM))
    return made


@pytest.fixture
async def camera(neighbourhood: Neighbourhood, platform: SmallPlatform) -> Camera:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")
    made: Camera = await neighbourhood.camera(platform, row)
    await neighbourhood.known(platform, CODE)
    return made


async def turn(platform: SmallPlatform, instruction: front_end.Instruction, name: str = "") -> None:
    await platform.gateway.downward.control(CODE, instruction.encode(), name)


async def test_presets_cruises_and_home_are_set_and_told(platform: SmallPlatform, camera: Camera) -> None:
    desk, viewer = platform.desk, platform.viewer
    assert (await desk.presets(viewer, CODE)).entries == ()
    await turn(platform, front_end.preset("set", 3), "东门")
    await turn(platform, front_end.add_cruise_point(0, 3))
    heard = await desk.presets(viewer, CODE)
    assert heard.entries == (Preset(preset_id="3", name="东门"),)
    assert heard.is_complete
    assert [t.number for t in (await desk.cruise_tracks(viewer, CODE)).entries] == [0]
    _, points = await desk.cruise_track(viewer, CODE, 0)
    assert [(p.preset_index, p.stay_time, p.speed) for p in points.entries] == [(3, 5, 7)]
    told = await desk.home_position(viewer, CODE)
    assert told is not None
    assert not told.enabled
    assert (await desk.position(viewer, CODE)).zoom == 1.0


async def test_commands_with_an_answer_tell_it_and_the_others_do_not(
    platform: SmallPlatform, camera: Camera
) -> None:
    desk, viewer = platform.desk, platform.viewer
    channel = camera.device.channels[CODE]
    recording = await desk.command(viewer, CODE, Order(Command.RECORD))
    assert (recording.reply.is_done, channel.recorded_streams) == (True, {0})
    await desk.command(viewer, CODE, Order(Command.STOP_RECORD))
    assert not channel.recorded_streams
    await desk.command(viewer, CODE, Order(Command.GUARD))
    assert channel.is_armed
    silent = await desk.command(viewer, CODE, Order(Command.FORMAT_CARD, card=0))
    assert silent.reply.is_done is None
    cards = (await desk.cards(viewer, CODE)).entries
    assert {card.state for card in cards} == {CardState.FORMATTING}


async def test_a_configuration_is_read_back(platform: SmallPlatform, camera: Camera) -> None:
    desk, viewer = platform.desk, platform.viewer
    wish = Configuration(basic_param=BasicParam(name="东门球机", heart_beat_interval=1), frame_mirror=2)
    done = await desk.configure(viewer, CODE, wish)
    assert (done.reply.is_done, done.differing, done.trouble) == (True, (), "")
    assert camera.keepalive_s == 1.0
    told = await desk.configuration(viewer, CODE, ("BasicParam", "FrameMirror", "OSDConfig"))
    assert told.settings.frame_mirror == 2
    assert told.missing == ("OSDConfig",)


async def test_what_an_old_edition_does_not_know_is_not_sent(platform: SmallPlatform, camera: Camera) -> None:
    peer = platform.gateway.peers.get(CODE)
    assert peer is not None
    peer.profile = for_edition(Edition.GB2016)
    desk, viewer = platform.desk, platform.viewer
    refused = (
        desk.cards(viewer, CODE),
        desk.position(viewer, CODE),
        desk.command(viewer, CODE, Order(Command.FORMAT_CARD, card=1)),
        desk.configure(viewer, CODE, Configuration(frame_mirror=1)),
    )
    for question in refused:
        with pytest.raises(Unprocessable) as refusal:
            await question
        assert refusal.value.details["protocolVersion"] == "2.0"
    assert camera.device.cards[1].formatting_since is None
    await desk.presets(viewer, CODE)
    await desk.command(viewer, CODE, Order(Command.KEY_FRAME))


async def test_an_answer_in_parts_is_gathered_by_its_number(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_parts(query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        entries = [Preset(preset_id=str(n), name=f"门{n}") for n in range(1, 6)]
        return [
            PresetResponse(sn=query.sn, device_id=CODE, sum_num=5, presets=tuple(entries[n : n + 2]))
            for n in (0, 2, 4)
        ]

    monkeypatch.setattr("tongshi.testing.answers.tell", in_parts)
    heard = await platform.desk.presets(platform.viewer, CODE)
    assert [preset.preset_id for preset in heard.entries] == ["1", "2", "3", "4", "5"]
    assert heard.is_complete


async def test_an_answer_that_never_ends_is_incomplete(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return [ConfigDownloadResponse(sn=query.sn, device_id=CODE, settings=Configuration(frame_mirror=0))]

    monkeypatch.setattr("tongshi.testing.answers.tell", half)
    platform.gateway.orders._waits = Waits(idle_s=0.05)
    told = await platform.desk.configuration(platform.viewer, CODE, ("FrameMirror", "OSDConfig"))
    assert (told.is_complete, told.missing) == (False, ("OSDConfig",))


async def test_silence_is_an_error_and_a_late_answer_is_dropped(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def silent(query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(query)
        return []

    monkeypatch.setattr("tongshi.testing.answers.tell", silent)
    orders = platform.gateway.orders
    orders._waits = Waits(first_s=0.05)
    with pytest.raises(PeerTimeout) as refusal:
        await platform.desk.presets(platform.viewer, CODE)
    assert refusal.value.code == 50401
    assert orders.collecting == 0
    late = PresetResponse(sn=asked[0].sn, device_id=CODE, sum_num=0)
    assert await camera.notify(late) == 200
    assert orders.collecting == 0


async def test_a_device_that_refuses_is_told_so(
    platform: SmallPlatform, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return [PresetResponse(sn=query.sn, device_id=CODE, result_ok=False)]

    monkeypatch.setattr("tongshi.testing.answers.tell", refusing)
    with pytest.raises(PeerFailed) as refusal:
        await platform.desk.presets(platform.viewer, CODE)
    assert refusal.value.code == 50201


async def test_nobody_is_asked_for_a_device_that_is_unknown(platform: SmallPlatform) -> None:
    with pytest.raises(NotFound):
        await platform.desk.presets(platform.viewer, DeviceId("31010100001320009999"))
    with pytest.raises(NotFound):
        await platform.gateway.orders.ask(
            "31010100001320009999", lambda sn: CruiseTrackListQuery(sn=sn, device_id="31010100001320009999")
        )


async def test_a_probe_asks_the_device_once_for_a_while(platform: SmallPlatform, camera: Camera) -> None:
    statuses = DeviceStatuses(
        platform.db, status_store, platform.clock, PLATFORM, Members(), platform.gateway.orders, at_once=2
    )
    first, second = await asyncio.gather(
        statuses.probe([CODE], EVERYTHING, 0, 3.0), statuses.probe([CODE, "nope"], EVERYTHING, 0, 3.0)
    )
    assert [probe.status.online for _, probe in first.found if probe] == [True]
    assert [lost.device_id for lost in second.failed] == ["nope"]
    await camera.vanish()
    kept = await statuses.probe([CODE], EVERYTHING, 60, 0.2)
    assert len(kept.found) == 1
    asked = await statuses.probe([CODE], EVERYTHING, 0, 0.2)
    assert [lost.device_id for lost in asked.failed] == [CODE]


async def test_a_head_is_turned_by_every_kind_of_command(platform: SmallPlatform, camera: Camera) -> None:
    async def turn_by(command: Ptz, **changes: Any) -> bool | None:
        return (await platform.ptz.turn(platform.viewer, Turn(CODE, command, **changes))).is_done

    head = camera.device.channels[CODE].head
    assert await turn_by(Ptz.ABSOLUTE, view=PreciseView(pan=90.0, zoom=2.0)) is None
    assert head.motion.target is not None
    assert head.motion.target.pan == 90.0
    assert await turn_by(Ptz.PRESET_SET, index=9) is None
    assert await turn_by(Ptz.HOME_ON, index=9, reset_s=30) is True
    assert head.home == (9, 30.0)
    assert await turn_by(Ptz.HOME_ON, index=10) is False
    assert await turn_by(Ptz.CRUISE_ADD, group=2, index=9) is None
    assert head.cruises[2].points == [9]


async def test_a_head_that_another_holds_is_not_turned(platform: SmallPlatform, camera: Camera) -> None:
    other = Subject(SubjectKind.PLATFORM, "31000000002000000001", "市级平台")
    await platform.locks.hold_for_platform(other, CODE)
    with pytest.raises(Conflict) as refusal:
        await platform.ptz.turn(platform.viewer, Turn(CODE, Ptz.LEFT))
    assert refusal.value.code == 40903
    assert not camera.device.channels[CODE].instructions
