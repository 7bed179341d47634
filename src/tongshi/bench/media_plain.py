"""Figures of the media engine that have no bare loop beside them: delay, idle cost, memory, one slow viewer.

Each is judged by a bound of its own, in the median of the rounds. *Delay* runs from a frame's last packet
handed to the kernel to its last byte read at a viewer's socket, of 50 streams with a viewer each, and has
the gathering tick in it. *Memory* is anonymous memory, which does not contain the kernel's socket buffers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tongshi._media import bench_media


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure of a case and the most it may be."""

    figure: str
    most: float
    shown_as: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Plain:
    """One case."""

    name: str
    case: str
    options: dict[str, float]
    bounds: tuple[Bound, ...]


CASES = (
    Plain(
        "delay",
        "delay",
        {"streams": 50.0},
        (Bound("delay_p50_ms", 5.0, "p50, ms"), Bound("delay_p99_ms", 15.0, "p99, ms")),
    ),
    Plain("idle", "idle", {"streams": 200.0}, (Bound("core_share", 0.005, "% of a core", 100.0),)),
    Plain(
        "memory",
        "memory",
        {"streams": 100.0},
        (Bound("bytes_per_stream", 2.0 * (1 << 20), "MiB a stream", 1 / (1 << 20)),),
    ),
    Plain(
        "slow-viewer",
        "slow_viewer",
        {"viewers": 100.0},
        (
            Bound("delay_p50_ms", 5.0, "p50 of the others, ms"),
            Bound("delay_p99_ms", 15.0, "p99 of the others, ms"),
            Bound("skipped", 0.0, "frames left out for the others"),
        ),
    ),
)


def measure(
    rounds: int, seconds: float, wanted: tuple[str, ...], report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The cases whose name begins as wanted: every figure with least and most, and whether it holds."""
    found: dict[str, dict[str, Any]] = {}
    for plain in CASES:
        if not plain.name.startswith(wanted):
            continue
        results = [bench_media(plain.case, plain.options | {"seconds": seconds}) for _ in range(rounds)]
        for bound in plain.bounds:
            values = [one[bound.figure] * bound.scale for one in results]
            most, median = bound.most * bound.scale, statistics.median(values)
            key = f"{plain.name}: {bound.shown_as}"
            found[key] = {
                "median": median,
                "least": min(values),
                "most": max(values),
                "bound": most,
                "is_accepted": 0 <= median <= most,
            }
            report(f"{key}: {median:.3f} of at most {most:g}")
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | median (min-max) | at most |", "|---|---|---|"]
    for name, one in found.items():
        spread = f"{one['least']:.2f}-{one['most']:.2f}"
        lines.append(f"| {name} | {one['median']:.2f} ({spread}) | {one['bound']:g} |")
    return "\n".join(lines)
