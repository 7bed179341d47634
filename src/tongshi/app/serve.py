"""Runs one platform until it is told to stop, and the commands that need its parts without running it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import structlog
import uvicorn
import uvloop

from tongshi.app import ports
from tongshi.app.composition import Platform, build
from tongshi.audit import store as audit
from tongshi.config.sections import Config, HttpSection, PlatformSection, StorageSection, load
from tongshi.observe import collector, logs
from tongshi.storage.engine import Database
from tongshi.web import openapi

log = structlog.get_logger(__name__)

SETUP_CODE_FILE = "setup-code"
GRACE_S = 5


def run(path: Path) -> int:
    """``tongshi serve``: 0 after an ordered stop, 1 when it could not start."""
    config = load(path)
    logs.configure(config.log.level, config.log.form)
    return uvloop.run(_serve(config, path.parent))


async def _serve(config: Config, folder: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            # Before all else, so that nothing is announced that nobody can reach.
            doors = await ports.bind(config.http.host, config.http.port)
            stack.callback(ports.close, doors)
            platform = await build(config)
            code = await platform.start(stack)
            announce_setup(code, folder, config.http)
            collector.settle()
            await _serve_http(platform, doors, stop)
    except OSError as error:
        words = ports.why_not(config, error)
        log.error("start_failed", error=words)
        print(f"tongshi: 无法启动：{words}", file=sys.stderr)
        return 1
    log.info("stopped", platform_id=config.platform.id)
    return 0


async def _serve_http(platform: Platform, doors: list[socket.socket], stop: asyncio.Event) -> None:
    """The REST face and console, ended before anything they stand on."""
    section = platform.config.http
    server = _Server(
        uvicorn.Config(
            platform.asgi,
            host=section.host,
            port=section.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=30,
            limit_concurrency=2_000,
        )
    )
    serving = asyncio.ensure_future(server.serve(sockets=doors))
    stopping = asyncio.ensure_future(stop.wait())
    log.info("started", platform_id=platform.config.platform.id, http=f"{section.host}:{section.port}")
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    # Who waits for news would hold its connection to the end of the grace.
    platform.pulls.news.stop()
    server.should_exit = True
    stopping.cancel()
    await serving
    if not stop.is_set():
        raise OSError(f"HTTP {section.host}:{section.port}")


class _Server(uvicorn.Server):
    """Signals are ours: the whole platform ends in order, not the HTTP part alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def announce_setup(code: str | None, folder: Path, section: HttpSection) -> None:
    """Show the one-time code on the terminal and leave it, for the owner only, beside the configuration."""
    path = folder / SETUP_CODE_FILE
    if code is None:
        path.unlink(missing_ok=True)
        return
    path.touch(mode=0o600)
    path.write_text(code + "\n", encoding="utf-8")
    print(
        f"首次启动：打开 http://{section.host}:{section.port}/#/sign-in?setup={code} 创建管理员", flush=True
    )
    print(f"一次性设置码 {code}（也保存在 {path}，使用后失效）", flush=True)


def openapi_document() -> str:
    """The OpenAPI document of this version, as ``/openapi.json`` serves it."""
    return asyncio.run(_document())


async def _document() -> str:
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            platform=PlatformSection(id="31000000002000000001", name="通视"),
            storage=StorageSection(url=f"sqlite:///{folder}/document.db"),
        )
        platform = await build(config)
        try:
            document = openapi.document(platform.operations)
        finally:
            await platform.discard()
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def verify_audit(path: Path) -> int:
    """``tongshi audit verify``: 0 when the chain is whole; 1 names the first record that is not."""
    return asyncio.run(_verify(load(path)))


async def _verify(config: Config) -> int:
    database = await Database.open(config.storage.url, migrate=False)
    try:
        broken = await database.read(audit.verify)
    finally:
        await database.close()
    if broken is None:
        print("审计链完整")
        return 0
    print(f"审计链在第 {broken} 条断裂", file=sys.stderr)
    return 1
