"""What a device is set to and what it tells of it: configuration, home position, cruises, cards; no I/O.

Implements: GB/T 28181-2022 9.3
Everything here has an effect that can be seen: a preset moves the picture, a home position takes the head
back, a card that is being formatted has no room until it is done, a name is in the next catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from tongshi.protocols.gb28181.configuration import (
    READ_ONLY,
    BasicParam,
    Configuration,
    VideoParamOpt,
    merged,
    only,
    types_of,
)
from tongshi.protocols.gb28181.control import DeviceConfig, DeviceControl, TrackCommand
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition
from tongshi.protocols.gb28181.device_query import (
    ConfigDownloadQuery,
    CruiseTrackListQuery,
    CruiseTrackQuery,
    HomePositionQuery,
    PresetQuery,
    PTZPositionQuery,
    SDCardStatusQuery,
)
from tongshi.protocols.gb28181.device_response import (
    Card,
    CardState,
    ConfigDownloadResponse,
    CruisePoint,
    CruiseTrack,
    CruiseTrackListResponse,
    CruiseTrackResponse,
    DeviceConfigResponse,
    HomePositionResponse,
    Preset,
    PresetResponse,
    PTZPositionResponse,
    SDCardStatusResponse,
)
from tongshi.protocols.gb28181.message import BaseMessage
from tongshi.testing.pan_tilt import FIELD_ANGLE, Head, View

FORMAT_S = 2.0
CARD_MB = 122_070
VIEW_DISTANCE_M = 120.0
OPTIONS = VideoParamOpt(download_speeds=("1", "2", "4"), resolutions=("3", "5"))


@dataclass(slots=True)
class CardSlot:
    """One memory card; it is being formatted since a moment, or not."""

    number: int
    free_mb: int = CARD_MB // 2
    formatting_since: float | None = None

    def format(self, now: float) -> None:
        self.formatting_since = now

    def told(self, now: float) -> Card:
        """What the device says of it."""
        if self.formatting_since is not None and now - self.formatting_since >= FORMAT_S:
            self.formatting_since, self.free_mb = None, CARD_MB
        since = self.formatting_since
        return Card(
            number=self.number,
            name=f"SD-{self.number}",
            state=CardState.OK if since is None else CardState.FORMATTING,
            format_progress=None if since is None else int((now - since) / FORMAT_S * 100),
            capacity=CARD_MB,
            free_space=self.free_mb if since is None else 0,
        )


@dataclass(slots=True)
class Installation:
    """What is set in one channel, or in the device itself."""

    settings: Configuration = field(default_factory=Configuration)
    home: HomePosition = field(default_factory=lambda: HomePosition(enabled=False))
    tracking: TrackCommand = TrackCommand.STOP


class Mount(Protocol):
    """A channel, as far as it is mounted and set up."""

    @property
    def head(self) -> Head: ...
    @property
    def installation(self) -> Installation: ...


def default_settings(name: str, keepalive_s: float, expires_s: int) -> Configuration:
    """What a device is set to when it leaves its box."""
    basic = BasicParam(
        name=name,
        expiration=expires_s,
        heart_beat_interval=max(1, round(keepalive_s)),
        heart_beat_count=3,
    )
    return Configuration(basic_param=basic, video_param_opt=OPTIONS, frame_mirror=0)


def tell(query: object, mount: Mount, cards: Mapping[int, CardSlot], now: float) -> list[BaseMessage]:
    """The answers to a query about settings, each configuration alone (A.2.4.7); none for another message."""
    if not isinstance(query, BaseMessage):
        return []
    sn, code = query.sn, query.device_id
    if isinstance(query, PresetQuery):
        presets = tuple(
            Preset(preset_id=str(number), name=name)
            for number, (name, _) in sorted(mount.head.presets.items())
        )
        return [PresetResponse(sn=sn, device_id=code, sum_num=len(presets), presets=presets)]
    if isinstance(query, HomePositionQuery):
        return [HomePositionResponse(sn=sn, device_id=code, home_position=mount.installation.home)]
    if isinstance(query, CruiseTrackListQuery):
        tracks = tuple(
            CruiseTrack(number=number, name=cruise.name)
            for number, cruise in sorted(mount.head.cruises.items())
        )
        return [CruiseTrackListResponse(sn=sn, device_id=code, sum_num=len(tracks), tracks=tracks)]
    if isinstance(query, CruiseTrackQuery):
        return [_track(query, mount.head)]
    if isinstance(query, PTZPositionQuery):
        return [_position(query, mount.head.view(now))]
    if isinstance(query, SDCardStatusQuery):
        told = tuple(card.told(now) for card in cards.values())
        return [SDCardStatusResponse(sn=sn, device_id=code, sum_num=len(told), cards=told)]
    if isinstance(query, ConfigDownloadQuery):
        return _downloads(query, mount.installation.settings)
    return []


def _track(query: CruiseTrackQuery, head: Head) -> CruiseTrackResponse:
    cruise = head.cruises.get(query.number)
    points = (
        tuple(
            CruisePoint(preset_index=n, stay_time=cruise.dwell_s, speed=cruise.speed) for n in cruise.points
        )
        if cruise
        else ()
    )
    return CruiseTrackResponse(
        sn=query.sn,
        device_id=query.device_id,
        number=query.number,
        name=cruise.name if cruise else "",
        sum_num=len(points),
        points=points,
    )


def _position(query: PTZPositionQuery, view: View) -> PTZPositionResponse:
    return PTZPositionResponse(
        sn=query.sn,
        device_id=query.device_id,
        pan=round(view.pan, 2),
        tilt=round(-view.tilt, 2),  # the standard counts downwards
        zoom=round(view.zoom, 2),
        horizontal_field_angle=round(FIELD_ANGLE / view.zoom, 2),
        vertical_field_angle=round(FIELD_ANGLE / view.zoom * 9 / 16, 2),
        max_view_distance=round(VIEW_DISTANCE_M * view.zoom, 1),
    )


def _downloads(query: ConfigDownloadQuery, settings: Configuration) -> list[BaseMessage]:
    known = types_of(settings)
    asked = [name for name in query.known_types if name in known]
    if not asked:
        return [ConfigDownloadResponse(sn=query.sn, device_id=query.device_id, result_ok=False)]
    return [
        ConfigDownloadResponse(sn=query.sn, device_id=query.device_id, settings=only(settings, name))
        for name in asked
    ]


def configure(order: DeviceConfig, mount: Mount) -> DeviceConfigResponse:
    """Take a configuration, or refuse it whole when something of it can only be read."""
    names = types_of(order.settings)
    is_taken = bool(names) and READ_ONLY.isdisjoint(names)
    if is_taken:
        installation = mount.installation
        settings = order.settings
        old, new = installation.settings.basic_param, settings.basic_param
        if old is not None and new is not None:  # what a new one does not tell stays
            told = {n: v for n in new.__struct_fields__ if (v := getattr(new, n)) is not None}
            settings = replace(settings, basic_param=replace(old, **told))
        installation.settings = merged(installation.settings, settings)
    return DeviceConfigResponse(sn=order.sn, device_id=order.device_id, result_ok=is_taken)


def place(order: DeviceControl, mount: Mount, cards: Mapping[int, CardSlot], now: float) -> bool:
    """Carry out what concerns head, home and cards. False: the device cannot do it."""
    if order.home_position is not None:
        return _set_home(order.home_position, mount, now)
    if order.drag_zoom_in is not None:
        _drag(order.drag_zoom_in, mount.head, now, is_in=True)
    if order.drag_zoom_out is not None:
        _drag(order.drag_zoom_out, mount.head, now, is_in=False)
    if order.precise_view is not None:
        wanted, view = order.precise_view, mount.head.view(now)
        mount.head.go(
            View(
                view.pan if wanted.pan is None else wanted.pan,
                view.tilt if wanted.tilt is None else -wanted.tilt,
                view.zoom if wanted.zoom is None else wanted.zoom,
            ),
            now,
        )
    if order.format_card is not None:
        for number, card in cards.items():
            if order.format_card in (0, number):
                card.format(now)
    if order.track is not None:
        _track_target(order, mount, now)
    return True


def _set_home(wanted: HomePosition, mount: Mount, now: float) -> bool:
    preset = wanted.preset_index if wanted.preset_index is not None else mount.installation.home.preset_index
    if wanted.enabled and preset not in mount.head.presets:
        return False
    mount.installation.home = wanted
    mount.head.home = (preset, float(wanted.reset_time or 0)) if wanted.enabled and preset else None
    mount.head.stop(now)
    return True


def _drag(box: DragBox, head: Head, now: float, *, is_in: bool) -> None:
    across = box.mid_point_x / box.length - 0.5
    down = box.mid_point_y / box.width - 0.5
    factor = min(box.length / box.length_x, box.width / box.length_y)
    head.drag(across, down, factor if is_in else 1 / factor, now)


def _track_target(order: DeviceControl, mount: Mount, now: float) -> None:
    """Manual looks where the area lies in the panorama, a full turn wide; without an area it does nothing."""
    assert order.track is not None  # the caller's condition
    area = order.target_area
    if order.track is TrackCommand.MANUAL:
        if area is None:
            return
        view = mount.head.view(now)
        mount.head.go(View(area.mid_point_x / area.length * 360.0, view.tilt, view.zoom), now)
    elif order.track is TrackCommand.STOP:
        mount.head.stop(now)
    mount.installation.tracking = order.track
