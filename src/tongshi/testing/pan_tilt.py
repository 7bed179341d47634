"""A camera's head: where it looks, how it moves there, its presets. Time is an argument.

Implements: GB/T 28181-2022 A.3.2
Implements: GB/T 28181-2022 A.3.4
Implements: GB/T 28181-2022 A.3.5
Implements: GB/T 28181-2022 A.3.6
Not here: the instruction's eight bytes (``protocols.gb28181.front_end``); cutting the picture (``picture``).

A ``Motion`` is a value: an encoder thread reads the current one while the signalling side replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tongshi.protocols.gb28181.front_end import Action, Instruction

PAN_RATE_DPS = 120.0  # at speed 255
TILT_RATE_DPS = 60.0
ZOOM_OCTAVES_PER_S = 1.5  # at speed 15: 2.8 times as large after one second
TILT_MIN, TILT_MAX = -20.0, 70.0
ZOOM_MIN, ZOOM_MAX = 1.0, 8.0
PRESET_TRAVEL_S = 0.8
MAX_PRESETS = 255
FIELD_ANGLE = 60.0  # degrees across the picture at zoom 1
DWELL_S, CRUISE_SPEED = 5, 7  # of a cruise that was told neither
SCAN_LEFT, SCAN_RIGHT = 300.0, 60.0  # where a scan turns when no limit was set


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks: degrees and times."""

    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True, slots=True)
class Motion:
    """A movement begun at ``since`` from ``start``: at a rate, towards a target, or round a tour of stops.

    ``tour`` pairs a stop with the seconds of stay; ``home`` is where the head goes and how long after.
    """

    start: View
    since: float
    pan_dps: float = 0.0
    tilt_dps: float = 0.0
    zoom_octaves_ps: float = 0.0
    target: View | None = None
    tour: tuple[tuple[View, float], ...] = ()
    home: tuple[View, float] | None = None

    def at(self, now: float) -> View:
        """The view at ``now``, inside the limits of the head."""
        passed = max(0.0, now - self.since)
        if self.home is not None and passed >= self.home[1]:
            left = Motion(self.start, self.since, target=self.target).at(self.since + self.home[1])
            return _between(left, self.home[0], min(1.0, (passed - self.home[1]) / PRESET_TRAVEL_S))
        if self.tour:
            return self._on_tour(passed)
        if self.target is not None:
            return _between(self.start, self.target, min(1.0, passed / PRESET_TRAVEL_S))
        return View(
            pan=(self.start.pan + self.pan_dps * passed) % 360.0,
            tilt=_clamp(self.start.tilt + self.tilt_dps * passed, TILT_MIN, TILT_MAX),
            zoom=_clamp(self.start.zoom * 2.0 ** (self.zoom_octaves_ps * passed), ZOOM_MIN, ZOOM_MAX),
        )

    def _on_tour(self, passed: float) -> View:
        round_s = sum(PRESET_TRAVEL_S + stay_s for _, stay_s in self.tour)
        before = self.start if passed < round_s else self.tour[-1][0]
        passed %= round_s
        for stop, stay_s in self.tour:
            if passed < PRESET_TRAVEL_S + stay_s:
                return _between(before, stop, min(1.0, passed / PRESET_TRAVEL_S))
            before, passed = stop, passed - PRESET_TRAVEL_S - stay_s
        return before


@dataclass(slots=True)
class Cruise:
    """A cruise: the numbers of its presets in order."""

    points: list[int] = field(default_factory=list)
    name: str = ""
    dwell_s: int = DWELL_S
    speed: int = CRUISE_SPEED


@dataclass(slots=True)
class Head:
    """The moving part of one camera.

    ``home`` is a preset and the seconds without control after which the head returns to it.
    """

    motion: Motion = field(default_factory=lambda: Motion(View(), 0.0))
    presets: dict[int, tuple[str, View]] = field(default_factory=dict)
    cruises: dict[int, Cruise] = field(default_factory=dict)
    scan_limits: dict[int, dict[int, float]] = field(default_factory=dict)
    switches: set[int] = field(default_factory=set)
    home: tuple[int, float] | None = None

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
        """Stay where it is, until it is time to go home."""
        self.motion = Motion(self.view(now), now, home=self._home())

    def go(self, target: View, now: float) -> None:
        """Travel to a view, or to the limit before it (A.2.1.11)."""
        within = View(
            target.pan % 360.0,
            _clamp(target.tilt, TILT_MIN, TILT_MAX),
            _clamp(target.zoom, ZOOM_MIN, ZOOM_MAX),
        )
        self.motion = Motion(self.view(now), now, target=within, home=self._home())

    def drag(self, across: float, down: float, factor: float, now: float) -> None:
        """Turn by parts of the picture (-0.5 to 0.5 from its centre) and zoom by a factor."""
        view = self.view(now)
        angle = FIELD_ANGLE / view.zoom
        self.go(View(view.pan + across * angle, view.tilt - down * angle * 9 / 16, view.zoom * factor), now)

    def start_cruise(self, group: int, now: float) -> None:
        """Go round the presets of a cruise; one without stops is ignored."""
        cruise = self.cruises.get(group)
        stops = [self.presets[n][1] for n in cruise.points if n in self.presets] if cruise else []
        if cruise and stops:
            self.motion = Motion(
                self.view(now), now, tour=tuple((stop, float(cruise.dwell_s)) for stop in stops)
            )

    def scan(self, group: int, now: float) -> None:
        """Swing between the limits of a scan, the picture moving right to left at first (A.3.6)."""
        view, limits = self.view(now), self.scan_limits.get(group, {})
        right, left = limits.get(2, SCAN_RIGHT), limits.get(1, SCAN_LEFT)
        ends = (View(right, view.tilt, view.zoom), View(left, view.tilt, view.zoom))
        self.motion = Motion(view, now, tour=tuple((end, 0.0) for end in ends))

    def _home(self) -> tuple[View, float] | None:
        if self.home is None or self.home[0] not in self.presets:
            return None
        return self.presets[self.home[0]][1], self.home[1]

    def set_preset(self, number: int, now: float, name: str = "") -> None:
        """Remember the present view as preset 1 to 255; other numbers are ignored."""
        if 1 <= number <= MAX_PRESETS:
            self.presets[number] = (name or f"预置位{number}", self.view(now))

    def call_preset(self, number: int, now: float) -> None:
        """Travel to a preset; an unknown one is ignored, as devices do."""
        if number in self.presets:
            self.motion = Motion(self.view(now), now, target=self.presets[number][1], home=self._home())

    def delete_preset(self, number: int) -> None:
        """Forget a preset."""
        self.presets.pop(number, None)


def obey(head: Head, instruction: Instruction, now: float, name: str = "") -> None:
    """Do what an instruction says; the lens has no effect here. ``name`` is a preset's or a cruise's."""
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
        if instruction.is_stop:
            head.stop(now)
    elif action is Action.SET_PRESET:
        head.set_preset(instruction.data2, now, name)
    elif action is Action.CALL_PRESET:
        head.call_preset(instruction.data2, now)
    elif action is Action.DELETE_PRESET:
        head.delete_preset(instruction.data2)
    elif action is Action.SCAN:
        if instruction.data2:
            head.scan_limits.setdefault(instruction.data1, {})[instruction.data2] = head.view(now).pan
        else:
            head.scan(instruction.data1, now)
    elif action is Action.AUXILIARY_ON:
        head.switches.add(instruction.data1)
    elif action is Action.AUXILIARY_OFF:
        head.switches.discard(instruction.data1)
    else:
        _cruise(head, instruction, now, name)


def _cruise(head: Head, instruction: Instruction, now: float, name: str) -> None:
    group, value = instruction.data1, instruction.data3 << 8 | instruction.data2
    action = instruction.action
    if action is Action.START_CRUISE:
        head.start_cruise(group, now)
        return
    if action is Action.DELETE_CRUISE_POINT:
        cruise = head.cruises.get(group)
        if cruise is not None and value and value in cruise.points:
            cruise.points.remove(value)
        if cruise is not None and (not value or not cruise.points):
            del head.cruises[group]
        return
    if action not in (Action.ADD_CRUISE_POINT, Action.SET_CRUISE_SPEED, Action.SET_CRUISE_DWELL):
        return
    cruise = head.cruises.setdefault(group, Cruise())
    cruise.name = name or cruise.name
    if action is Action.ADD_CRUISE_POINT:
        cruise.points.append(instruction.data2)
    elif action is Action.SET_CRUISE_SPEED:
        cruise.speed = max(1, min(15, value))
    else:
        cruise.dwell_s = value


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


def around(names: Sequence[str]) -> dict[int, tuple[str, View]]:
    """Presets of these names, numbered from 1, evenly all around."""
    return {
        number: (name, View(pan=(number - 1) * 360.0 / len(names))) for number, name in enumerate(names, 1)
    }
