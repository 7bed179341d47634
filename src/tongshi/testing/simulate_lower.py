"""``tongshi simulate lower``: a lower platform with as many channels as asked, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
from collections.abc import Callable

import uvloop

from tongshi.errors import InvalidRequest
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.observe import logs
from tongshi.testing.defects import Defects
from tongshi.testing.lower_platform import LowerPlan, LowerPlatform
from tongshi.testing.many_channels import ManyChannels
from tongshi.testing.simulate import server_of

_SECRET_VARIABLE = "TONGSHI_PLATFORM_SECRET"  # noqa: S105  # the name of a variable, not a secret
_READERS: dict[str, Callable[[str], float | int | bool]] = {
    "bool": lambda text: True,
    "int": int,
    "float": float,
}
_DEFECTS = {field.name.replace("_", "-"): field for field in dataclasses.fields(Defects)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--server", required=True, help="platform to register with: code@host:port")
    parser.add_argument("--secret", default="", help=f"registration password; default: ${_SECRET_VARIABLE}")
    parser.add_argument("--id", default="31010100002000000001", help="its own 20-digit code")
    parser.add_argument("--name", default="仿真平台")
    parser.add_argument("--channels", type=int, default=1000, help="cameras below it (default 1000)")
    parser.add_argument("--systems", type=int, default=0, help="lower systems that share the cameras")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--per-message", type=int, default=500, help="items in one message at most")
    parser.add_argument("--window", type=int, default=1, help="parts on their way at once; 1 is serial")
    parser.add_argument("--keepalive", type=float, default=60.0, help="seconds between heartbeats")
    parser.add_argument("--seed", type=int, default=1, help="of everything made up and of what is lost")
    parser.add_argument(
        "--defect",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help=f"what it does wrong, may be repeated: {', '.join(_DEFECTS)}; see docs/simulators.md",
    )
    parser.add_argument("--json", action="store_true", help="report as JSON lines")


def run_cli(args: argparse.Namespace) -> int:
    """Run until interrupted."""
    logs.configure("warning", "text")
    return uvloop.run(_run(LowerPlatform(plan_of(args)), as_json=args.json))


def plan_of(args: argparse.Namespace) -> LowerPlan:
    """The plan that the arguments describe. Raises InvalidRequest."""
    server = server_of(args.server, args.secret or os.environ.get(_SECRET_VARIABLE, ""), _SECRET_VARIABLE)
    if len(args.id) != 20 or not (args.id.isascii() and args.id.isdigit()):
        raise InvalidRequest("--id 应为 20 位数字", field="id")
    return LowerPlan(
        channels=ManyChannels(args.id, args.channels, args.systems, args.name, args.seed),
        server_id=server.id,
        server=Remote(server.host, server.port, args.transport),
        secret=server.secret,
        per_message=args.per_message,
        window=args.window,
        keepalive_s=args.keepalive,
        defects=defects_of(args.defect),
        seed=args.seed,
    )


def defects_of(words: list[str]) -> Defects:
    """Defects by name, a value after "=". Raises InvalidRequest."""
    values: dict[str, float | int | bool] = {}
    for word in words:
        name, _, text = word.partition("=")
        field = _DEFECTS.get(name)
        if field is None:
            raise InvalidRequest(f"没有缺陷 {name}；可选：{'、'.join(_DEFECTS)}", field="defect")
        try:
            values[field.name] = _READERS[str(field.type)](text)
        except ValueError:
            raise InvalidRequest(f"缺陷 {name} 需要数值，如 {name}=2", field="defect") from None
    return Defects(**values)  # type: ignore[arg-type]  # each has the type of its default


async def _run(platform: LowerPlatform, *, as_json: bool) -> int:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await platform.start()
    last: dict[str, object] = {}
    try:
        while not ended.is_set():
            now: dict[str, object] = {
                "registered": platform.registered.is_set(),
                "channels": platform.channels.channels,
                "answers": len(platform.answers),
                "parts": platform.parts,
            }
            if now != last:
                last = now
                print(json.dumps(now) if as_json else _line(now), flush=True)
            try:
                await asyncio.wait_for(ended.wait(), 1.0)
            except TimeoutError:
                continue
    finally:
        await platform.stop()
    return 0


def _line(now: dict[str, object]) -> str:
    state = "已注册" if now["registered"] else "未注册"
    return f"{state}，通道 {now['channels']}，应答目录查询 {now['answers']} 次，已送出消息 {now['parts']} 条"
