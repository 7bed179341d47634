"""The media engine beside the bare system calls that do the same work: ``tongshi bench media``.

Raw and engine take turns within one run and see the same traffic, so that their ratio holds on any machine;
each figure is the median of the rounds with its spread. CPU is that of the receiving threads alone; generator
and readers have the other core. ``burst`` sends each frame at once, as a camera does on its own wire;
``spread`` sends packet by packet over four fifths of the frame's time, as it arrives behind a network.

Other work on the machine favours the bare loop: it wakes late, so gathers without wanting to. The load
average stands beside the figures for that reason.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tongshi._media import bench_media
from tongshi.bench import media_plain

DESCRIPTORS_PER_VIEWER = 2
SPARE_DESCRIPTORS = 1500


@dataclass(frozen=True, slots=True)
class Comparison:
    """One engine case, the bare loop it is held against, and the bounds of their ratio."""

    name: str
    raw: str
    engine: str
    options: dict[str, float]
    accepted: float
    goal: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rounds of one comparison came to. CPU is in seconds a gigabit."""

    name: str
    raw_cpu_s_per_gbit: Spread
    engine_cpu_s_per_gbit: Spread
    ratio: Spread
    accepted: float
    goal: float
    kernel_drops: int
    lost: int
    skipped: int
    backlog_growth_bytes: int
    gbit_per_round: float

    @property
    def is_accepted(self) -> bool:
        """Within the bound, without a drop and with a backlog that is no more than one tick's arrivals."""
        one_tick_bytes = 4 << 20
        return (
            self.ratio.median <= self.accepted
            and self.kernel_drops == 0
            and self.lost == 0
            and self.backlog_growth_bytes <= one_tick_bytes
        )


def comparisons(viewers: Iterable[int]) -> tuple[Comparison, ...]:
    """All cases; the bounds are those of the architecture's budget table."""
    burst, spread = {"gso": 1.0}, {"gso": 0.0}
    watched = {"watched": 1.0}  # the engine gathers for as short as it does for viewers; nobody reads
    ingest, relay = {"streams": 200.0}, {"streams": 50.0}
    fixed = (
        Comparison("ingest-200-burst", "raw_recv", "ingest", ingest | burst, 0.8, 0.5),
        Comparison("ingest-200-spread", "raw_recv", "ingest", ingest | spread, 0.8, 0.5),
        Comparison("ingest-200-burst-watched", "raw_recv", "ingest", ingest | burst | watched, 0.8, 0.5),
        Comparison("ingest-200-spread-watched", "raw_recv", "ingest", ingest | spread | watched, 0.8, 0.5),
        Comparison("relay-50-burst", "raw_relay", "relay", relay | burst, 1.0, 0.6),
        Comparison("relay-50-spread", "raw_relay", "relay", relay | spread, 1.0, 0.6),
    )
    # One viewer carries the whole cost of its ingest, which the bare writev does not have: shown, not judged.
    fan_out = tuple(
        Comparison(
            f"fanout-{count}",
            "raw_fanout",
            "fanout",
            {"viewers": float(count)},
            1.5 if count >= 100 else float("inf"),
            1.2 if count >= 100 else float("inf"),
        )
        for count in viewers
    )
    return fixed + fan_out


def run(
    *,
    rounds: int = 5,
    seconds: float = 3.0,
    cases: Iterable[str] | None = None,
    viewers: Sequence[int] = (1, 100, 500),
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure and return machine, outcomes by name and whether all are accepted.

    Args:
        rounds: rounds a case; raw and engine alternate and change their order from round to round.
        seconds: measured window of one round of one side.
        cases: names, or beginnings of names, to measure; None measures all.
        viewers: audiences of the fan-out.
        report: called with a line after each step.
    """
    _raise_descriptor_limit(max(viewers, default=0) * DESCRIPTORS_PER_VIEWER + SPARE_DESCRIPTORS)
    wanted = tuple(cases) if cases is not None else ("",)
    chosen = [c for c in comparisons(viewers) if c.name.startswith(wanted)]
    outcomes = [_measure(comparison, rounds, seconds, report) for comparison in chosen]
    plain = media_plain.measure(rounds, seconds, wanted, report)
    return {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "processor": platform.machine()},
        "rounds": rounds,
        "seconds": seconds,
        "load_average": os.getloadavg()[0],
        "cases": {o.name: asdict(o) | {"is_accepted": o.is_accepted} for o in outcomes},
        "plain": plain,
        "is_accepted": all(o.is_accepted for o in outcomes) and all(p["is_accepted"] for p in plain.values()),
    }


def _raise_descriptor_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _measure(comparison: Comparison, rounds: int, seconds: float, report: Callable[[str], None]) -> Outcome:
    options = comparison.options | {"seconds": seconds}
    raw: list[dict[str, float]] = []
    engine: list[dict[str, float]] = []
    for number in range(rounds):
        sides = [(comparison.raw, raw), (comparison.engine, engine)]
        for case, results in sides if number % 2 == 0 else reversed(sides):
            results.append(bench_media(case, options))
        report(
            f"{comparison.name} {number + 1}/{rounds}: "
            f"raw {raw[-1]['cpu_s_per_gbit']:.4f}, engine {engine[-1]['cpu_s_per_gbit']:.4f} CPU-s/Gbit"
        )
    ratios = [e["cpu_s_per_gbit"] / r["cpu_s_per_gbit"] for r, e in zip(raw, engine, strict=True)]
    growth = [e.get("backlog_end_bytes", 0.0) - e.get("backlog_start_bytes", 0.0) for e in engine]
    return Outcome(
        name=comparison.name,
        raw_cpu_s_per_gbit=Spread.of([r["cpu_s_per_gbit"] for r in raw]),
        engine_cpu_s_per_gbit=Spread.of([e["cpu_s_per_gbit"] for e in engine]),
        ratio=Spread.of(ratios),
        accepted=comparison.accepted,
        goal=comparison.goal,
        kernel_drops=int(sum(e.get("kernel_drops", 0) for e in engine)),
        lost=int(sum(e.get("lost", 0) for e in engine)),
        skipped=int(sum(e.get("skipped", 0) for e in engine)),
        backlog_growth_bytes=int(statistics.median(growth)),
        gbit_per_round=statistics.median(e["gbit"] for e in engine),
    )


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| case | bare, CPU-s/Gbit | engine, CPU-s/Gbit | ratio (min-max) | accepted | goal | drops |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in figures["cases"].items():
        ratio = case["ratio"]
        lines.append(
            f"| {name} | {case['raw_cpu_s_per_gbit']['median']:.3f} "
            f"| {case['engine_cpu_s_per_gbit']['median']:.3f} "
            f"| {ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f}) "
            f"| {case['accepted']:g} | {case['goal']:g} | {case['kernel_drops']} |"
        )
    if figures["plain"]:
        lines += ["", media_plain.table(figures["plain"])]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a case (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds a round (default 3)")
    parser.add_argument("--case", action="append", help="only cases whose name begins so; may be repeated")
    parser.add_argument(
        "--viewers", type=int, nargs="+", default=[1, 100, 500], help="audiences of the fan-out"
    )


def run_cli(args: argparse.Namespace) -> int:
    """Measure as asked; 1 when a bound is broken."""
    figures = run(
        rounds=args.rounds,
        seconds=args.seconds,
        cases=args.case,
        viewers=args.viewers,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(_finite(figures), indent=2) if args.json else table(figures))
    return 0 if figures["is_accepted"] else 1


def _finite(value: Any) -> Any:
    """JSON has no infinity; a bound that does not exist is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if value == float("inf") else value


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tongshi bench media", description=__doc__)
    add_arguments(parser)
    return run_cli(parser.parse_args(argv))
