"""``tongshi demo``: start everything, say where to look, end everything; ``--check`` asserts the whole path.

Each run is fresh: its folder below ``var/demo`` holds configuration, databases and logs of this run only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tongshi.demo.check import Check, StepFailed, shown_first
from tongshi.demo.client import Console
from tongshi.demo.processes import ChildFailed, Children
from tongshi.demo.topology import Site, Topology, build, config, fleet, write_toml
from tongshi.errors import InvalidRequest, TongshiError
from tongshi.testing.clips import make_clips

START_TIMEOUT_S = 60.0
USER = "admin"
MARK = ".tongshi-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi demo``."""
    parser.add_argument("--check", action="store_true", help="assert the whole path and exit")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/demo"), help="folder of this run, emptied first"
    )
    parser.add_argument("--port-offset", type=int, default=0, help="added to the ports 8080 and 5060 onward")
    parser.add_argument("--ready-file", type=Path, help="write address and account as JSON when ready")


def run_cli(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until the check has ended. 0: as asked; 1: a step failed."""
    empty_folder(args.folder)
    return asyncio.run(_main(args, args.folder))


def empty_folder(folder: Path) -> None:
    """Make the run's folder anew. A folder that no demonstration made is not touched.

    Raises:
        InvalidRequest: the folder holds something else, or cannot be made.
    """
    if folder.exists():
        if not (folder / MARK).exists() and any(folder.iterdir()):
            raise InvalidRequest(f"{folder} 不是演示目录且不为空，不会清空它", field="folder")
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True)
        (folder / MARK).touch()
    except OSError as error:
        raise InvalidRequest(f"无法建立演示目录 {folder}：{error.strerror}", field="folder") from error


async def _main(args: argparse.Namespace, folder: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    children = Children(folder)
    try:
        return await _demonstrate(args, folder, children, stop)
    except (ChildFailed, StepFailed, TongshiError) as error:
        print(f"✗ {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        _say("正在结束演示启动的所有进程…")
        await children.end()


async def _demonstrate(
    args: argparse.Namespace, folder: Path, children: Children, stop: asyncio.Event
) -> int:
    started = time.monotonic()
    topology = build(args.port_offset)
    plan = fleet(topology, folder)
    _say("生成演示画面素材（首次约半分钟）…")
    await asyncio.to_thread(make_clips, Path(plan.clips), lambda line: _say(f"  {line}"))
    write_toml(plan, folder / "cameras.toml")
    password = f"Ts-{secrets.token_hex(5)}-{secrets.randbelow(90) + 10}"
    async with AsyncExitStack() as stack:
        consoles: dict[str, Console] = {}
        for site in topology.sites:
            _say(f"启动{site.name} {site.url}")
            console = await stack.enter_async_context(Console(site.url))
            await _start_site(topology, site, folder, children)
            consoles[site.key] = console
        for site in topology.sites:
            await _wait(consoles[site.key].is_up, site.name, children, stop)
            await consoles[site.key].set_up(_setup_code(folder, site), USER, password)
        for link in topology.links:
            route = {"targetId": topology.site(link.upper).id}
            await consoles[link.lower].call("POST", "/api/v1/alarms/routes", route)
        _say(f"启动 {len(topology.cameras)} 台模拟摄像机")
        await children.start("cameras", "simulate", "camera", "--plan", str(folder / "cameras.toml"))
        check = Check(topology, consoles, _say)
        if args.check:
            await _checked(check, children)
            _say(f"全部通过，用时 {time.monotonic() - started:.0f} 秒")
            return 0
        _say("等待设备注册与档案交换…")
        await check.cameras_known()
        _announce(topology, password, args.ready_file)
        await _until_stopped(children, stop)
    return 0


async def _start_site(topology: Topology, site: Site, folder: Path, children: Children) -> None:
    path = folder / site.key / "tongshi.toml"
    write_toml(config(topology, site, folder), path)
    await children.start(site.key, "serve", "--config", str(path))


def _setup_code(folder: Path, site: Site) -> str:
    path = folder / site.key / "setup-code"
    if not path.exists():
        raise StepFailed(f"{site.url} 由另一个程序应答；请结束它，或用 --port-offset 换一组端口")
    return path.read_text(encoding="utf-8").strip()


async def _checked(check: Check, children: Children) -> None:
    """Run the check; a child that dies meanwhile is the better explanation."""
    try:
        await check.run()
    except (StepFailed, TongshiError):
        children.check()
        raise
    children.check()


async def _wait(
    reached: Callable[[], Awaitable[bool]], name: str, children: Children, stop: asyncio.Event
) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not await reached():
        children.check()
        if stop.is_set():
            raise StepFailed("已中断")
        if time.monotonic() > end:
            raise StepFailed(f"{name} 在 {START_TIMEOUT_S:.0f} 秒内没有就绪")
        await asyncio.sleep(0.2)
    # Somebody else's process may answer on a port that ours could not have.
    children.check()


async def _until_stopped(children: Children, stop: asyncio.Event) -> None:
    while not stop.is_set():
        children.check()
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue


def _announce(topology: Topology, password: str, ready_file: Path | None) -> None:
    site, camera = shown_first(topology)
    lines = [
        "",
        "  通视演示已就绪",
        "",
        f"  市级控制台   {topology.city.url}",
        f"  账号         {USER}",
        f"  口令         {password}   （仅本次运行有效）",
        "",
        "  可以试试：",
        f"  1. 登录后点开“{camera.name}”：画面来自{site.name}，右侧显示每一步用时；",
        "  2. 按住云台方向键，画面右下角的编码块与叠加文字随之变化；",
        "  3. 打开“级联与共享”，点开一个平台：暂停交换，看滞后与差异；恢复，看它自动补齐；",
        "  4. 打开“视频墙”，点“铺满视频墙”：九路实时画面；点“录像”，下方按时间轴回放、变速、倒放；",
        "  5. 点开一台 H.265 摄像机：浏览器不能解码时由平台转码，并注明。",
        "",
        "  其他平台（同一账号）：",
        *(f"     {other.url}  {other.name}" for other in topology.sites if other.key != "city"),
        "",
        "  按 Ctrl-C 结束。",
        "",
    ]
    print("\n".join(lines), flush=True)
    if ready_file is not None:
        ready = {"url": topology.city.url, "user": USER, "password": password, "device": camera.id}
        ready_file.touch(mode=0o600)
        ready_file.write_text(json.dumps(ready), encoding="utf-8")


def _say(line: str) -> None:
    print(line, flush=True)
