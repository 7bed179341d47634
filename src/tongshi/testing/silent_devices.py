"""Devices that are known and never there: for platforms without signalling."""

from __future__ import annotations

from typing import Any, NoReturn

from tongshi.errors import Unavailable
from tongshi.protocols.gb28181.response import DeviceStatusResponse


class SilentDevices:
    """Fulfils ``control.ports.DeviceTalk``: nobody leads to a device."""

    async def presets(self, device_id: str) -> Any:
        _nobody()

    async def home_position(self, device_id: str) -> Any:
        _nobody()

    async def cruise_tracks(self, device_id: str) -> Any:
        _nobody()

    async def cruise_track(self, device_id: str, number: int) -> Any:
        _nobody()

    async def position(self, device_id: str) -> Any:
        _nobody()

    async def cards(self, device_id: str) -> Any:
        _nobody()

    async def configuration(self, device_id: str, config_types: tuple[str, ...]) -> Any:
        _nobody()

    async def status(self, device_id: str, timeout_s: float) -> DeviceStatusResponse:
        _nobody()

    async def command(self, device_id: str, make: Any) -> Any:
        _nobody()

    async def configure(self, device_id: str, settings: Any) -> Any:
        _nobody()


def _nobody() -> NoReturn:
    raise Unavailable("设备不在线", code=50301)


class SilentLine:
    """Fulfils ``peers.line_http.Line``: a device leads to itself, and says nothing."""

    def reached_by(self, device_id: str) -> str:
        return device_id

    async def device_info(self, device_id: str) -> Any:
        _nobody()
