"""A platform above asks and commands through us: filtered, decided, relayed, answered with its own SN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tongshi.audit import store as audit
from tongshi.protocols.gb28181 import front_end
from tongshi.protocols.gb28181.configuration import BasicParam, Configuration, SnapShotConfig
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl, RecordCommand
from tongshi.protocols.gb28181.control_parts import HomePosition, PreciseView, UpgradeOrder
from tongshi.protocols.gb28181.device_notify import DeviceUpgradeResult, UploadSnapShotFinished
from tongshi.protocols.gb28181.device_query import ConfigDownloadQuery, PresetQuery, SDCardStatusQuery
from tongshi.protocols.gb28181.device_response import (
    ConfigDownloadResponse,
    DeviceConfigResponse,
    PresetResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.response import DeviceControlResponse
from tongshi.resources.control.filters import COMMANDS, FilterRule, Range
from tongshi.resources.platforms.model import Relation
from tongshi.sharing import store as sharing
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.sharing.permissions import DEVICE_ACTIONS, Permission
from tongshi.testing.plan import CameraPlan
from tongshi.testing.registrar import PlatformDouble
from tongshi.testing.small_platform import Neighbour, PlatformPlan, SmallPlatform

UPPER, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
CODE, UNKNOWN = "31010100001320000001", "31010100001320009999"
ADMIN = Subject(SubjectKind.USER, "1", "admin")
Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@pytest.fixture(autouse=True)  # first to start and last to stop, so that goodbyes are heard
async def upper() -> AsyncIterator[PlatformDouble]:
    double = PlatformDouble(UPPER, SECRET)
    await double.start()
    yield double
    await double.stop()


@pytest.fixture
async def district(neighbourhood: Neighbourhood, upper: PlatformDouble) -> SmallPlatform:
    above = Neighbour(UPPER, Relation.UPPER, SECRET, port=upper.port)
    made: SmallPlatform = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,)))
    await neighbourhood.until(lambda: made.gateway.uppers[UPPER].is_registered)
    return made


@pytest.fixture
async def camera(neighbourhood: Neighbourhood, district: SmallPlatform) -> Any:
    row = CameraPlan(id=CODE, scene="crossing-day", civil_code="310101")
    made = await neighbourhood.camera(district, row)
    await neighbourhood.known(district, CODE)
    return made


async def open_wide(district: SmallPlatform, *commands: str) -> None:
    """Let the upper do everything, by right and by filter."""
    await district.grant(SubjectKind.PLATFORM, UPPER, "upper-all", DEVICE_ACTIONS)
    rules = tuple(FilterRule(name) for name in commands or COMMANDS)
    await district.filters.put(ADMIN, UPPER, rules, is_dry_run=False)


async def test_everything_but_turning_is_closed_until_it_is_opened(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    closed = (
        DeviceControl(1, CODE, tele_boot=True),
        DeviceControl(2, CODE, record_cmd=RecordCommand.START),
        DeviceControl(3, CODE, precise_view=PreciseView(pan=9.0)),
        DeviceConfig(4, CODE, Configuration(frame_mirror=1)),
    )
    assert [await upper.send(DISTRICT, message) for message in closed] == [403] * 4
    # The filter lets questions pass; the right is missing, which looks like a device that is not there.
    assert await upper.send(DISTRICT, PresetQuery(sn=5, device_id=CODE)) == 404
    assert await upper.send(DISTRICT, PresetQuery(sn=6, device_id=UNKNOWN)) == 404
    assert not camera.device.channels[CODE].recorded_streams


async def test_questions_are_relayed_and_every_part_bears_the_asker_s_number(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await open_wide(district)
    await district.gateway.downward.control(CODE, front_end.preset("set", 4).encode(), "东门")  # type: ignore[arg-type]
    (presets,) = await upper.ask(DISTRICT, PresetQuery(sn=70_001, device_id=CODE), PresetResponse)
    assert [(one.preset_id, one.name) for one in presets.presets] == [("4", "东门")]
    (cards,) = await upper.ask(DISTRICT, SDCardStatusQuery(sn=70_002, device_id=CODE), SDCardStatusResponse)
    assert len(cards.cards) == 2
    both = ConfigDownloadQuery(sn=70_003, device_id=CODE, config_types=("BasicParam", "FrameMirror"))
    parts = await upper.ask(DISTRICT, both, ConfigDownloadResponse, count=2)
    assert parts[0].settings.basic_param is not None
    assert parts[1].settings.frame_mirror == 0
    assert await upper.send(DISTRICT, PresetQuery(sn=7, device_id=UNKNOWN)) == 404


async def test_answered_commands_bring_the_device_s_answer_with_the_same_number(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await open_wide(district)
    recording = DeviceControl(80_001, CODE, record_cmd=RecordCommand.START)
    (answer,) = await upper.ask(DISTRICT, recording, DeviceControlResponse)
    assert answer.result_ok
    assert camera.device.channels[CODE].recorded_streams == {0}
    home = HomePosition(enabled=True, reset_time=5, preset_index=77)
    (refused,) = await upper.ask(
        DISTRICT, DeviceControl(80_002, CODE, home_position=home), DeviceControlResponse
    )
    assert not refused.result_ok
    named = DeviceConfig(80_003, CODE, Configuration(basic_param=BasicParam(name="市局命名")))
    (configured,) = await upper.ask(DISTRICT, named, DeviceConfigResponse)
    assert configured.result_ok
    assert camera.device.item.name == "市局命名"


async def test_unanswered_commands_get_the_device_s_status_and_nothing_more(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await open_wide(district)
    before = len(upper.messages)
    assert await upper.send(DISTRICT, DeviceControl(1, CODE, format_card=1)) == 200
    assert camera.device.cards[1].formatting_since is not None
    assert await upper.send(DISTRICT, DeviceControl(2, CODE, precise_view=PreciseView(pan=9.0))) == 200
    assert camera.device.channels[CODE].head.motion.target.pan == 9.0
    assert await upper.send(DISTRICT, DeviceControl(3, CODE)) == 501
    await asyncio.sleep(0.1)
    assert len(upper.messages) == before


async def test_a_device_that_is_gone_is_answered_with_error(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await open_wide(district)
    await camera.stop()
    recording = DeviceControl(5, CODE, record_cmd=RecordCommand.START)
    (answer,) = await upper.ask(DISTRICT, recording, DeviceControlResponse)
    assert not answer.result_ok


async def test_a_filter_holds_numbers_within_their_range(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    rules = (FilterRule("PTZCmd", (Range("presetIndex", 1, 10), Range("panSpeed", 0, 100))),)
    await district.filters.put(ADMIN, UPPER, rules, is_dry_run=False)
    for instruction, status in (
        (front_end.preset("call", 10), 200),
        (front_end.preset("call", 11), 403),
        (front_end.ptz(pan=1, pan_speed=100), 200),
        (front_end.ptz(pan=1, pan_speed=101), 403),
    ):
        control = DeviceControl(9, CODE, ptz_cmd=instruction.encode())
        assert await upper.send(DISTRICT, control) == status
    assert await upper.send(DISTRICT, PresetQuery(sn=5, device_id=CODE)) == 403
    assert len(camera.device.channels[CODE].instructions) == 2


async def test_a_filter_on_trial_decides_nothing(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await district.filters.put(ADMIN, UPPER, (FilterRule("TeleBoot"),), is_dry_run=True)
    turning = DeviceControl(9, CODE, ptz_cmd=front_end.stop().encode())
    assert await upper.send(DISTRICT, turning) == 200
    assert await upper.send(DISTRICT, DeviceControl(1, CODE, tele_boot=True)) == 403


async def test_who_holds_a_head_here_is_not_overridden_by_an_equal(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    other = Subject(SubjectKind.PLATFORM, "31000000002000000002", "另一上级")
    await district.locks.hold_for_platform(other, CODE)
    turning = DeviceControl(9, CODE, ptz_cmd=front_end.ptz(pan=1, pan_speed=9).encode())
    assert await upper.send(DISTRICT, turning) == 486
    assert not camera.device.channels[CODE].instructions


async def test_an_upgrade_ends_with_its_notification_at_who_ordered_it(
    upper: PlatformDouble, district: SmallPlatform, camera: Any
) -> None:
    await open_wide(district)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"TONGSHI-FW V9.1\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    order = UpgradeOrder(
        firmware="V9.1", file_url=f"http://127.0.0.1:{port}/fw", manufacturer="Tongshi", session_id="a1" * 16
    )
    (taken,) = await upper.ask(DISTRICT, DeviceControl(60_001, CODE, upgrade=order), DeviceControlResponse)
    assert taken.result_ok
    await upper.until(lambda: any(isinstance(one, DeviceUpgradeResult) for one in upper.messages))
    server.close()
    (result,) = [one for one in upper.messages if isinstance(one, DeviceUpgradeResult)]
    assert (result.session_id, result.has_succeeded, result.firmware) == ("a1" * 16, True, "V9.1")
    assert camera.device.firmware == "V9.1"
    records, _ = await district.db.read(lambda conn: audit.page(conn, 1, 10, event="device_command"))
    assert [(one.entry.outcome.value, one.entry.details["sessionId"]) for one in records] == [
        ("done", "a1" * 16)
    ]


@pytest.mark.parametrize("lost", [0, 1])
async def test_snapshots_are_uploaded_named_and_told_and_a_lost_one_is_missing(
    upper: PlatformDouble, district: SmallPlatform, camera: Any, lost: int
) -> None:
    await open_wide(district)
    camera._undertakings.lost_uploads = lost
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/snapshots"
    shot = SnapShotConfig(count=2, interval=1, upload_url=url, session_id="b2" * 16)
    order = DeviceConfig(50_001, CODE, Configuration(snap_shot_config=shot))
    (taken,) = await upper.ask(DISTRICT, order, DeviceConfigResponse)
    assert taken.result_ok
    await upper.until(lambda: any(isinstance(one, UploadSnapShotFinished) for one in upper.messages))
    server.close()
    (told,) = [one for one in upper.messages if isinstance(one, UploadSnapShotFinished)]
    assert told.session_id == "b2" * 16
    assert len(told.files) == len(bodies) == 2 - lost
    for name, body in zip(told.files, bodies, strict=True):
        assert (len(name), name[:22]) == (41, CODE + "02")
        assert name.isdecimal()
        assert f'filename="{name}.jpg"'.encode() in body
        assert b"b2" * 16 in body
        assert b"\xff\xd8\xff" in body  # how a JPEG begins


@pytest.mark.parametrize(
    ("lacks", "statuses"),
    [
        (Permission.VIDEO_LIVE, (404, 200, 404)),
        (Permission.DEVICE_COMMAND, (404, 200, 404)),
        (Permission.DEVICE_CONFIG, (200, 404, 404)),
    ],
)
async def test_a_snapshot_is_a_view_and_a_command_and_no_configuration(
    upper: PlatformDouble,
    district: SmallPlatform,
    camera: Any,
    lacks: Permission,
    statuses: tuple[int, int, int],
) -> None:
    """The same rights as by REST; a message that also sets something needs that right too."""
    await open_wide(district)
    at = district.clock.at()
    for number in ("upper-all", f"upper-{UPPER}"):
        await district.db.write(sharing.revoke_grant, number, at)
    await district.grant(SubjectKind.PLATFORM, UPPER, "blind", DEVICE_ACTIONS - {lacks})
    shot = SnapShotConfig(count=1, upload_url="http://127.0.0.1:9/x", session_id="c3" * 16)
    wishes = (
        Configuration(snap_shot_config=shot),
        Configuration(frame_mirror=1),
        Configuration(snap_shot_config=shot, frame_mirror=1),
    )
    said = [await upper.send(DISTRICT, DeviceConfig(sn, CODE, wish)) for sn, wish in enumerate(wishes, 1)]
    assert tuple(said) == statuses
