"""A camera's head: where it looks, how it moves there, its presets. Time is an argument.

Implements: GB/T 28181-2022 A.3.2
Implements: GB/T 28181-2022 A.3.4
Not here: the instruction's eight bytes (``protocols.gb28181.front_end``); cutting the picture (``picture``).

A ``Motion`` is a value: an encoder thread reads the current one while the signalling side replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tongshi.protocols.gb28181.front_end import Action, Instruction

PAN_RATE_DPS = 120.0  # at speed 255
TILT_RATE_DPS = 60.0
ZOOM_OCTAVES_PER_S = 1.5  # at speed 15: 2.8 times as large after one second
TILT_MIN, TILT_MAX = -20.0, 70.0
ZOOM_MIN, ZOOM_MAX = 1.0, 8.0
PRESET_TRAVEL_S = 0.8
MAX_PRESETS = 255


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks: degrees and times."""

    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True, slots=True)
class Motion:
    """A movement begun at ``since`` from ``start``: at a rate, or towards a target."""

    start: View
    since: float
    pan_dps: float = 0.0
    tilt_dps: float = 0.0
    zoom_octaves_ps: float = 0.0
    target: View | None = None

    def at(self, now: float) -> View:
        """The view at ``now``, inside the limits of the head."""
        passed = max(0.0, now - self.since)
        if self.target is not None:
            return _between(self.start, self.target, min(1.0, passed / PRESET_TRAVEL_S))
        return View(
            pan=(self.start.pan + self.pan_dps * passed) % 360.0,
            tilt=_clamp(self.start.tilt + self.tilt_dps * passed, TILT_MIN, TILT_MAX),
            zoom=_clamp(self.start.zoom * 2.0 ** (self.zoom_octaves_ps * passed), ZOOM_MIN, ZOOM_MAX),
        )


@dataclass(slots=True)
class Head:
    """The moving part of one camera."""

    motion: Motion = field(default_factory=lambda: Motion(View(), 0.0))
    presets: dict[int, tuple[str, View]] = field(default_factory=dict)

    def view(self, now: float) -> View:
        """Where it looks at ``now``."""
        return self.motion.at(now)

    def move(self, pan: int, tilt: int, zoom: int, now: float) -> None:
        """Move on until told otherwise.

        Args:
            pan: -255 (left) to 255 (right). tilt: -255 (down) to 255 (up). zoom: -15 (out) to 15 (in).
            now: monotonic seconds.
        """
        self.motion = Motion(
            start=self.view(now),
            since=now,
            pan_dps=PAN_RATE_DPS * pan / 255,
            tilt_dps=TILT_RATE_DPS * tilt / 255,
            zoom_octaves_ps=ZOOM_OCTAVES_PER_S * zoom / 15,
        )

    def stop(self, now: float) -> None:
        """Stay where it is."""
        self.motion = Motion(self.view(now), now)

    def set_preset(self, number: int, now: float, name: str = "") -> None:
        """Remember the present view as preset 1 to 255; other numbers are ignored."""
        if 1 <= number <= MAX_PRESETS:
            self.presets[number] = (name or f"预置位{number}", self.view(now))

    def call_preset(self, number: int, now: float) -> None:
        """Travel to a preset; an unknown one is ignored, as devices do."""
        if number in self.presets:
            self.motion = Motion(self.view(now), now, target=self.presets[number][1])

    def delete_preset(self, number: int) -> None:
        """Forget a preset."""
        self.presets.pop(number, None)


def obey(head: Head, instruction: Instruction, now: float, preset_name: str = "") -> None:
    """Do what an instruction says; lens, cruise, scan and auxiliary functions have no effect here."""
    action = instruction.action
    if action is Action.MOVE:
        # A cleared bit stops its axis; the speed bytes may hold anything then.
        code = instruction.code
        head.move(
            _sign(code, 0x01, 0x02) * instruction.data1,
            _sign(code, 0x08, 0x04) * instruction.data2,
            _sign(code, 0x10, 0x20) * instruction.data3,
            now,
        )
    elif action is Action.SET_PRESET:
        head.set_preset(instruction.data2, now, preset_name)
    elif action is Action.CALL_PRESET:
        head.call_preset(instruction.data2, now)
    elif action is Action.DELETE_PRESET:
        head.delete_preset(instruction.data2)


def _sign(code: int, plus: int, minus: int) -> int:
    return (1 if code & plus else 0) - (1 if code & minus else 0)


def _between(start: View, target: View, share: float) -> View:
    turn = (target.pan - start.pan + 180.0) % 360.0 - 180.0  # the shorter way round
    return View(
        pan=(start.pan + turn * share) % 360.0,
        tilt=start.tilt + (target.tilt - start.tilt) * share,
        zoom=start.zoom + (target.zoom - start.zoom) * share,
    )


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
