"""``tongshi simulate upper``: an upper platform that lets a lower one register, asks it, and counts."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os

import uvloop

from tongshi.errors import InvalidRequest, PeerTimeout
from tongshi.observe import logs
from tongshi.testing.upper_platform import Counted, UpperPlatform

_SECRET_VARIABLE = "TONGSHI_PLATFORM_SECRET"  # noqa: S105  # the name of a variable, not a secret


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--id", default="31000000002000000001", help="its own 20-digit code")
    parser.add_argument("--port", type=int, default=0, help="SIP port; 0 chooses a free one")
    parser.add_argument(
        "--secret", default="", help=f"what lower platforms register with; ${_SECRET_VARIABLE}"
    )
    parser.add_argument(
        "--lower", default="", help="code of the platform to ask; default: the first to register"
    )
    parser.add_argument("--node", default="", help="ask for this division, system, group or device instead")
    parser.add_argument("--times", type=int, default=1, help="how often to ask (default 1)")
    parser.add_argument("--start-time", default="", help="StartTime of the query, Beijing time")
    parser.add_argument("--end-time", default="", help="EndTime of the query, Beijing time")
    parser.add_argument("--wait", type=float, default=600.0, help="seconds to wait for a registration")
    parser.add_argument("--no-tcp", action="store_true", help="cannot be reached by TCP")
    parser.add_argument("--loss", type=float, default=0.0, help="share of datagrams lost each way")
    parser.add_argument("--seed", type=int, default=1, help="of what is lost")
    parser.add_argument("--json", action="store_true", help="report as JSON lines")


def run_cli(args: argparse.Namespace) -> int:
    """Ask and count. 0: every answer was complete; 1: one was not."""
    logs.configure("warning", "text")
    secret = args.secret or os.environ.get(_SECRET_VARIABLE, "")
    if not secret:
        raise InvalidRequest(f"请用 --secret 或环境变量 {_SECRET_VARIABLE} 给出注册密码", field="secret")
    platform = UpperPlatform(
        args.id, secret, port=args.port, allow_tcp=not args.no_tcp, loss=args.loss, seed=args.seed
    )
    return uvloop.run(_run(platform, args))


async def _run(platform: UpperPlatform, args: argparse.Namespace) -> int:
    await platform.start()
    if not args.json:
        print(f"上级平台 {platform.id}，端口 {platform.port}，等待下级注册", flush=True)
    try:
        await platform.until(lambda: _lower(platform, args.lower) is not None, args.wait)
        code = _lower(platform, args.lower)
        assert code is not None  # it was waited for
        worst = 0
        for _ in range(args.times):
            told = await platform.ask_catalogue(
                code, args.node, start_time=args.start_time, end_time=args.end_time
            )
            print(_told(code, told, as_json=args.json), flush=True)
            worst = max(worst, told.state != "complete")
        return worst
    except PeerTimeout as error:
        print(error.message, flush=True)
        return 1
    finally:
        await platform.stop()


def _lower(platform: UpperPlatform, code: str) -> str | None:
    if code:
        return code if code in platform.registered else None
    return next(iter(platform.registered), None)


def _told(code: str, told: Counted, *, as_json: bool) -> str:
    if as_json:
        row = dataclasses.asdict(told)
        return json.dumps({"platform": code, **{key: value for key, value in row.items() if key != "codes"}})
    if told.state == "refused":
        return f"{code} 拒绝目录查询：{told.sip_status}"
    state = "完整" if told.state == "complete" else "不完整"
    return (
        f"{code} 目录{state}：声明 {told.announced}，收到 {told.distinct}（含重复 {told.received}），"
        f"消息 {told.parts} 条（TCP {told.by_tcp}），每条最多 {told.largest_part} 项，"
        f"用时 {told.wall_s:.1f} 秒"
    )
