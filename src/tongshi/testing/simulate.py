"""``tongshi simulate camera``: a fleet from a file or from arguments, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import uvloop

from tongshi.clock import SystemClock
from tongshi.errors import InvalidRequest
from tongshi.observe import logs
from tongshi.testing.clips import make_clips
from tongshi.testing.fleet import Figures, Fleet
from tongshi.testing.picture import Codec
from tongshi.testing.plan import (
    CAMERA_TYPE,
    MAX_CAMERAS,
    NVR_TYPE,
    CameraPlan,
    FleetPlan,
    Server,
    SipTransport,
    configs,
    read_plan,
)
from tongshi.testing.studio import Studio

_SECRET_VARIABLE = "TONGSHI_CAMERA_SECRET"  # noqa: S105  # the name of a variable, not a secret


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; those of a generated fleet are ignored with ``--plan``."""
    parser.add_argument("--plan", type=Path, help="fleet file (TOML), see docs/simulators.md")
    parser.add_argument("--server", help="platform to register with: code@host:port")
    parser.add_argument("--secret", default="", help=f"registration password; default: ${_SECRET_VARIABLE}")
    parser.add_argument("--count", type=int, default=1, help="how many devices (default 1)")
    parser.add_argument("--first-id", default="", help="code of the first; the others count on from it")
    parser.add_argument("--civil-code", default="310101", help="administrative division (default 310101)")
    parser.add_argument("--name-prefix", default="", help="put before every generated name")
    parser.add_argument("--codec", choices=("h264", "h265", "mixed"), default="h264")
    parser.add_argument("--transport", choices=("udp", "tcp", "mixed"), default="udp", help="of signalling")
    parser.add_argument("--channels", type=int, default=0, help="channels of each device; makes NVRs of them")
    parser.add_argument("--scene", default="", help="clip shown by all; default: one after another")
    parser.add_argument("--audio", action="store_true", help="add a G.711A sound")
    parser.add_argument("--rate-kbps", type=int, default=512)
    parser.add_argument("--host", default="127.0.0.1", help="own address (default 127.0.0.1)")
    parser.add_argument("--clips", type=Path, default=Path("var/clips"), help="made when missing")
    parser.add_argument("--threads", type=int, default=4, help="threads that draw and code pictures")
    parser.add_argument("--keepalive", type=float, default=60.0, help="seconds between heartbeats")
    parser.add_argument("--expires", type=int, default=3600, help="seconds a registration lives")
    parser.add_argument("--retry", type=float, default=60.0, help="seconds after a failed registration")
    parser.add_argument("--starts-per-s", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1, help="of everything made up")
    parser.add_argument("--json", action="store_true", help="report as JSON lines")
    parser.add_argument("--verbose", action="store_true", help="log every registration to stderr")


def run_cli(args: argparse.Namespace) -> int:
    """Run until interrupted. 0: ended as asked; 1: no camera could start."""
    logs.configure("debug" if args.verbose else "warning", "text")
    plan = read_plan(args.plan) if args.plan else plan_of(args)
    make_clips(Path(plan.clips), lambda line: None if args.json else print(line, flush=True))
    return uvloop.run(_run(plan, as_json=args.json))


def plan_of(args: argparse.Namespace) -> FleetPlan:
    """The plan that the arguments describe. Raises InvalidRequest."""
    server = server_of(args.server, args.secret or os.environ.get(_SECRET_VARIABLE, ""), _SECRET_VARIABLE)
    if not 1 <= args.count <= MAX_CAMERAS:
        raise InvalidRequest(f"--count 应在 1 到 {MAX_CAMERAS} 之间", field="count")
    kind = NVR_TYPE if args.channels else CAMERA_TYPE
    first = args.first_id or f"{args.civil_code:0<8}00{kind}0000001"
    if len(first) != 20 or not (first.isascii() and first.isdigit()):
        raise InvalidRequest("--first-id 应为 20 位数字", field="first-id")
    if int(first[14:]) + args.count > 1_000_000:
        raise InvalidRequest("--first-id 之后的序号不足", field="first-id")
    return FleetPlan(
        server=(server,),
        camera=tuple(_camera(args, first, number) for number in range(args.count)),
        clips=str(args.clips),
        host=args.host,
        threads=args.threads,
        starts_per_s=args.starts_per_s,
        seed=args.seed,
        keepalive_s=args.keepalive,
        expires_s=args.expires,
        retry_s=args.retry,
    )


def _camera(args: argparse.Namespace, first: str, number: int) -> CameraPlan:
    codecs: tuple[Codec, ...] = ("h264", "h264", "h265") if args.codec == "mixed" else (args.codec,)
    ways: tuple[SipTransport, ...] = ("udp", "tcp") if args.transport == "mixed" else (args.transport,)
    return CameraPlan(
        id=f"{first[:14]}{int(first[14:]) + number:06d}",
        civil_code=args.civil_code,
        channels=args.channels,
        scene=args.scene or number,
        codec=codecs[number % len(codecs)],
        transport=ways[number % len(ways)],
        audio=args.audio,
        rate_kbps=args.rate_kbps,
        name_prefix=args.name_prefix,
    )


def server_of(text: str | None, secret: str, variable: str) -> Server:
    """``code@host:port`` and its secret. Raises InvalidRequest."""
    code, at, address = (text or "").partition("@")
    host, colon, port = address.rpartition(":")
    if not (at and colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise InvalidRequest("--server 应写作 平台编码@地址:端口", field="server")
    if not secret:
        raise InvalidRequest(f"请用 --secret 或环境变量 {variable} 给出注册密码", field="secret")
    return Server(code, host.strip("[]"), int(port), secret)


async def _run(plan: FleetPlan, *, as_json: bool) -> int:
    clock = SystemClock()
    studio = Studio(Path(plan.clips), clock, plan.threads)
    fleet = Fleet(configs(plan), studio, clock, starts_per_s=plan.starts_per_s, seed=plan.seed)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    starting = asyncio.ensure_future(fleet.start())
    starting.add_done_callback(lambda task: ended.set() if task.cancelled() or task.exception() else None)
    try:
        await _report_until(ended, fleet, as_json=as_json)
        starting.cancel()
        try:
            await starting
        except asyncio.CancelledError:
            pass  # ended by the user before all had started
    finally:
        await fleet.stop()
    figures = fleet.figures()
    return 1 if figures.failed == figures.cameras else 0


async def _report_until(ended: asyncio.Event, fleet: Fleet, *, as_json: bool) -> None:
    """Print how the fleet stands whenever that changed, at most each second, until the end."""
    last: Figures | None = None
    while not ended.is_set():
        figures = fleet.figures()
        if figures != last:
            last = figures
            print(json.dumps(asdict(figures)) if as_json else _line(figures), flush=True)
        try:
            await asyncio.wait_for(ended.wait(), 1.0)
        except TimeoutError:
            continue


def _line(figures: Figures) -> str:
    failed = f"，{figures.failed} 台未能启动" if figures.failed else ""
    return f"相机 {figures.cameras} 台，已注册 {figures.registered}，正在送流 {figures.calls}{failed}"
