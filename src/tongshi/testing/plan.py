"""What a simulated camera and a fleet of them are: the keys of the fleet file, and cameras made from them.

Every key is explained in docs/simulators.md.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tongshi.errors import InvalidRequest
from tongshi.ids import device_id, platform_id
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.protocols.media.g711 import Law
from tongshi.testing.picture import Codec
from tongshi.testing.recordings import Recorded, made_up
from tongshi.testing.scenery import WORLDS
from tongshi.testing.shanghai import make_item

MAX_CAMERAS = 10_000
MAX_CHANNELS = 10_000
MAX_PERIPHERALS = 64
ALARM_INPUT, VOICE_OUTPUT = "134", "137"
NVR_TYPE, CAMERA_TYPE = "118", "132"

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=86_400.0)]
SipTransport = Literal["udp", "tcp"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a camera does wrong. Each is off by default and may be changed while the camera runs.

    ``refuse_invite`` is the SIP status of the refusal; ``drop_after_s`` counts from the start of a stream to
    the camera's death without a word; ``loss`` is the share of media datagrams lost (UDP only). Of recorders:
    ``no_record_answer`` never answers a search, ``records_withheld`` leaves out so many files that SumNum
    counts (quirk 6), ``no_media_status`` ends a recording without a word (quirk 55), ``speaks_2011`` refuses
    RTSP/1.0 with 400 (quirk 52), ``refuse_scale`` refuses every speed but 1 (quirk 51), ``keeps_stamps``
    leaves the recording's own clock in fast playback (quirk 54).

    Of media: ``elementary`` sends the bare picture under that payload type, and G.711 beside it; ``own_ssrc``
    answers with an SSRC of the camera's own and sends it (quirk 38); ``names_no_ssrc`` leaves y= out.
    """

    never_answer_invite: bool = False
    refuse_invite: Annotated[int, msgspec.Meta(ge=0, le=699)] = 0
    no_media: bool = False
    garbage_media: bool = False
    wrong_ssrc: bool = False
    drop_after_s: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    loss: Share = 0.0
    no_record_answer: bool = False
    records_withheld: Annotated[int, msgspec.Meta(ge=0)] = 0
    no_media_status: bool = False
    speaks_2011: bool = False
    refuse_scale: bool = False
    keeps_stamps: bool = False
    elementary: Annotated[int, msgspec.Meta(ge=0, le=127)] = 0
    own_ssrc: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    names_no_ssrc: bool = False


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The platform a camera registers with."""

    id: str
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    secret: str

    def __post_init__(self) -> None:
        platform_id(self.id, "server.id")


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated device.

    Args:
        server: where it registers. item: its own entry in the catalogue; its code is the SIP identity.
        channels: entries below it when it is NVR-like; empty: it is its own and only channel.
        peripherals: entries of what is wired to it: alarm inputs and loudspeakers.
        scene: stem of a clip. codec, audio, rate_kbps: of the picture. law: of its G.711 sound.
        transport: of signalling; the offer decides that of media. host, port: own address, 0 chooses.
        username: of the digest; its own code when empty.
        keepalive_s, keepalive_misses: after so many unanswered ones it registers again.
        max_calls: pictures at once; one more is refused with 486.
        presets: names of presets that every channel has from the start, numbered from 1, all around it.
        speaker: a loudspeaker built in, which its own code addresses.
        alarm_every_s: raises an alarm about so often; 0 never.
        recorded: what every channel has recorded.
    """

    server: Server
    item: CatalogItem
    channels: tuple[CatalogItem, ...] = ()
    peripherals: tuple[CatalogItem, ...] = ()
    scene: str = "crossing-day"
    codec: Codec = "h264"
    audio: bool = False
    law: Law = "alaw"
    rate_kbps: int = 512
    transport: SipTransport = "udp"
    host: str = "127.0.0.1"
    port: int = 0
    username: str = ""
    keepalive_s: float = 60.0
    keepalive_misses: int = 3
    expires_s: int = 3600
    retry_s: float = 60.0
    max_calls: int = 4
    presets: tuple[str, ...] = ()
    speaker: bool = False
    alarm_every_s: float = 0.0
    recorded: tuple[Recorded, ...] = ()
    faults: Faults = Faults()

    @property
    def id(self) -> str:
        """The device's code."""
        return self.item.device_id


class CameraPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One ``[[camera]]`` of a fleet file; what is left out is made up believably."""

    id: str
    server: str = ""
    name: str = ""
    name_prefix: str = ""  # of a generated name
    civil_code: str = ""
    address: str = ""
    longitude: Annotated[float, msgspec.Meta(ge=-180.0, le=180.0)] | None = None
    latitude: Annotated[float, msgspec.Meta(ge=-90.0, le=90.0)] | None = None
    ptz: bool = True
    channels: Annotated[int, msgspec.Meta(ge=0, le=MAX_CHANNELS)] = 0
    presets: Annotated[tuple[str, ...], msgspec.Meta(max_length=255)] = ()
    speaker: bool = False
    alarm_every_s: Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0)] = 0.0
    alarm_inputs: Annotated[int, msgspec.Meta(ge=0, le=MAX_PERIPHERALS)] = 0
    voice_outputs: Annotated[int, msgspec.Meta(ge=0, le=MAX_PERIPHERALS)] = 0
    scene: str | int = -1
    codec: Codec = "h264"
    audio: bool = False
    law: Law = "alaw"
    rate_kbps: Annotated[int, msgspec.Meta(ge=64, le=20_000)] = 512
    transport: SipTransport = "udp"
    port: Port = 0
    username: str = ""
    max_calls: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    recorded: tuple[Recorded, ...] = ()
    recorded_hours: Annotated[float, msgspec.Meta(ge=0.0, le=720.0)] = 0.0  # made up, until the start
    faults: Faults = Faults()


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fleet file: servers, cameras and what they share."""

    server: Annotated[tuple[Server, ...], msgspec.Meta(min_length=1, max_length=100)]
    camera: Annotated[tuple[CameraPlan, ...], msgspec.Meta(max_length=MAX_CAMERAS)] = ()
    clips: str = "var/clips"
    host: str = "127.0.0.1"
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    starts_per_s: Annotated[float, msgspec.Meta(gt=0.0, le=10_000.0)] = 100.0
    seed: int = 1
    keepalive_s: Seconds = 60.0
    expires_s: Annotated[int, msgspec.Meta(ge=1, le=604_800)] = 3600
    retry_s: Seconds = 60.0


def read_plan(path: Path) -> FleetPlan:
    """Read a fleet file. Raises InvalidRequest naming the key; OSError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=FleetPlan)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"{path}：{error}", field="plan") from error


def configs(plan: FleetPlan) -> list[CameraConfig]:
    """The cameras of a plan, complete. Raises InvalidRequest: a wrong or doubled code, an unknown server."""
    servers = {server.id: server for server in plan.server}
    rng = random.Random(plan.seed)
    seen: set[str] = set()
    made = []
    for number, row in enumerate(plan.camera):
        server = servers.get(row.server or plan.server[0].id)
        if server is None:
            raise InvalidRequest(f"相机 {row.id} 指向未知的平台 {row.server}", field="camera.server")
        if device_id(row.id, "camera.id") in seen:
            raise InvalidRequest(f"相机编码 {row.id} 重复", field="camera.id")
        seen.add(row.id)
        made.append(_config(plan, row, server, number, rng))
    return made


def _config(
    plan: FleetPlan, row: CameraPlan, server: Server, number: int, rng: random.Random
) -> CameraConfig:
    civil_code = row.civil_code or row.id[:6]
    made = make_item(
        row.id,
        number,
        civil_code=civil_code,
        parent_id=server.id,
        rng=rng,
        codec=row.codec,
        is_ptz=row.ptz,
        name_prefix=row.name_prefix,
    )
    item = msgspec.structs.replace(
        made,
        name=row.name or made.name,
        address=row.address or made.address,
        longitude=made.longitude if row.longitude is None else row.longitude,
        latitude=made.latitude if row.latitude is None else row.latitude,
        ip_address=plan.host,
        port=row.port or None,
        parental=1 if row.channels else 0,
    )
    return CameraConfig(
        server=server,
        item=item,
        channels=tuple(
            make_item(
                channel_id(row.id, index),
                index,
                civil_code=civil_code,
                parent_id=row.id,
                rng=rng,
                codec=row.codec,
            )
            for index in range(row.channels)
        ),
        peripherals=(
            *_peripherals(item, ALARM_INPUT, "报警输入", row.alarm_inputs),
            *_peripherals(item, VOICE_OUTPUT, "语音输出", row.voice_outputs),
        ),
        scene=_scene(row.scene, number),
        codec=row.codec,
        audio=row.audio,
        law=row.law,
        rate_kbps=row.rate_kbps,
        transport=row.transport,
        host=plan.host,
        port=row.port,
        username=row.username,
        keepalive_s=plan.keepalive_s,
        expires_s=plan.expires_s,
        retry_s=plan.retry_s,
        max_calls=row.max_calls,
        presets=row.presets,
        speaker=row.speaker,
        alarm_every_s=row.alarm_every_s,
        recorded=row.recorded + made_up(datetime.now(UTC), row.recorded_hours, random.Random(row.id)),
        faults=row.faults,
    )


def _peripherals(item: CatalogItem, type_code: str, name: str, count: int) -> list[CatalogItem]:
    """What is wired to a device: the first has its serial, further ones a thousand more each."""
    code = item.device_id
    return [
        CatalogItem(
            device_id=f"{code[:10]}{type_code}{code[13]}{(int(code[14:]) + 1000 * index) % 1_000_000:06d}",
            name=f"{item.name}{name}{index + 1}",
            manufacturer=item.manufacturer,
            model=item.model,
            civil_code=item.civil_code,
            address=item.address,
            parental=0,
            parent_ids=(code,),
            status=DeviceStatus.ON,
        )
        for index in range(count)
    ]


def channel_id(nvr_id: str, index: int) -> str:
    """The code of channel ``index`` (from 0) of an NVR: its own with type 132 and a serial of its block.

    The NVR's serial shifts up by four digits, so that NVRs 1 to 99 of one centre have 9,999 channels each.
    """
    serial = (int(nvr_id[14:]) * 10_000 + index + 1) % 1_000_000
    return f"{nvr_id[:10]}{CAMERA_TYPE}{nvr_id[13]}{serial:06d}"


def _scene(scene: str | int, number: int) -> str:
    names = list(WORLDS)
    if isinstance(scene, str):
        return scene
    return names[(number if scene < 0 else scene) % len(names)]
