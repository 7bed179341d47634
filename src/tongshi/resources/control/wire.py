"""Control of devices over REST: our own words; none of these operations is a row of Annex E."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from tongshi.protocols.gb28181.configuration import Configuration
from tongshi.protocols.gb28181.control import MAX_CARD, TrackCommand
from tongshi.protocols.gb28181.control_parts import DragBox, HomePosition
from tongshi.protocols.gb28181.device_response import (
    Card,
    CruisePoint,
    CruiseTrack,
    Preset,
    PTZPositionResponse,
)
from tongshi.resources.control.ports import Configured, Heard
from tongshi.resources.control.service import Command, Order, Ordered, Settled
from tongshi.web.operations import Answer, Request

_Text = Annotated[str, Meta(max_length=255)]


class ConfigQuery(Request, frozen=True):
    """Names of configurations as A.2.4.7 has them, separated by commas."""

    types: Annotated[str, Meta(min_length=1, max_length=512)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in self.types.split(",") if name.strip()))


class ConfigRequest(Request, frozen=True):
    """What to set; what is left out stays."""

    settings: Configuration


class CommandRequest(Request, frozen=True):
    """One command; the fields after it belong to the commands that they are named for."""

    command: Command
    stream_number: Annotated[int, Meta(ge=0, le=99)] | None = None
    alarm_methods: Annotated[list[Annotated[int, Meta(ge=1, le=7)]], Meta(max_length=7)] = field(
        default_factory=list
    )
    alarm_type: Annotated[int, Meta(ge=0, le=999)] | None = None
    card: Annotated[int, Meta(ge=0, le=MAX_CARD)] | None = None
    firmware: _Text = ""
    file_url: Annotated[str, Meta(max_length=1024)] = ""
    manufacturer: _Text = ""
    track: Literal["auto", "manual", "stop"] | None = None
    panorama_id: Annotated[str, Meta(max_length=64)] = ""
    area: DragBox | None = None

    def order(self) -> Order:
        """The command, understood."""
        return Order(
            command=self.command,
            stream_number=self.stream_number,
            alarm_methods=tuple(self.alarm_methods),
            alarm_type=self.alarm_type,
            card=self.card,
            firmware=self.firmware,
            file_url=self.file_url,
            manufacturer=self.manufacturer,
            track=None if self.track is None else TrackCommand(self.track.capitalize()),
            panorama_id=self.panorama_id,
            area=self.area,
        )


class PresetList(Answer, frozen=True):
    """Presets as the device tells them; ``unread`` entries could not be understood."""

    rows: list[Preset] = field(name="list")
    is_complete: bool = field(name="complete")
    unread: list[str]


class CruiseList(Answer, frozen=True):
    """Cruises; the first is number 0."""

    rows: list[CruiseTrack] = field(name="list")
    is_complete: bool = field(name="complete")
    unread: list[str]


class CruiseAnswer(Answer, frozen=True):
    """One cruise with its stops: seconds of stay, speed 1 to 15."""

    number: int
    name: str
    rows: list[CruisePoint] = field(name="list")
    is_complete: bool = field(name="complete")
    unread: list[str]


class CardList(Answer, frozen=True):
    """Memory cards; sizes in MB."""

    rows: list[Card] = field(name="list")
    is_complete: bool = field(name="complete")
    unread: list[str]


class HomeAnswer(Answer, frozen=True):
    """The home position; null when the device tells none."""

    home_position: HomePosition | None


class PositionAnswer(Answer, frozen=True):
    """Where the head looks: degrees, zoom in times, distance in metres; null is not told."""

    pan: float | None
    tilt: float | None
    zoom: float | None
    horizontal_field_angle: float | None
    vertical_field_angle: float | None
    max_view_distance: float | None


class ConfigAnswer(Answer, frozen=True):
    """Configurations that the device told; ``missing`` were asked for and not told."""

    settings: Configuration
    missing: list[str]
    unread: list[str]
    is_complete: bool = field(name="complete")


class CommandAnswer(Answer, frozen=True):
    """How a command ended. ``done`` is null where the standard has no answer: read back what it changed.

    ``controlDelayMs`` runs to the SIP answer; ``sessionId`` is the number of an upgrade.
    """

    is_done: bool | None = field(name="done")
    control_delay_ms: float
    device_reply: int
    session_id: str = ""


class ConfigResult(Answer, frozen=True):
    """How a configuration ended: what the device answers and tells now, and what differs from the wish."""

    is_done: bool | None = field(name="done")
    control_delay_ms: float
    settings: Configuration | None
    differing: list[str]
    trouble: str


def presets(heard: Heard[Preset]) -> PresetList:
    return PresetList(list(heard.entries), heard.is_complete, list(heard.bad))


def cruises(heard: Heard[CruiseTrack]) -> CruiseList:
    return CruiseList(list(heard.entries), heard.is_complete, list(heard.bad))


def cruise(number: int, name: str, heard: Heard[CruisePoint]) -> CruiseAnswer:
    return CruiseAnswer(number, name, list(heard.entries), heard.is_complete, list(heard.bad))


def cards(heard: Heard[Card]) -> CardList:
    return CardList(list(heard.entries), heard.is_complete, list(heard.bad))


def position(told: PTZPositionResponse) -> PositionAnswer:
    return PositionAnswer(
        told.pan,
        told.tilt,
        told.zoom,
        told.horizontal_field_angle,
        told.vertical_field_angle,
        told.max_view_distance,
    )


def config(told: Configured) -> ConfigAnswer:
    return ConfigAnswer(told.settings, list(told.missing), list(told.bad), told.is_complete)


def commanded(ordered: Ordered) -> CommandAnswer:
    reply = ordered.reply
    return CommandAnswer(reply.is_done, reply.delay_ms, reply.sip_status, ordered.session_id)


def settled(result: Settled) -> ConfigResult:
    return ConfigResult(
        result.reply.is_done,
        result.reply.delay_ms,
        result.told,
        list(result.differing),
        result.trouble,
    )
