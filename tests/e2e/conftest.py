"""What whole-platform tests share: two platforms to break, and the demonstration with a browser before it.

The cameras of the two platforms live in the test's own process, so that a test can change what they do wrong
and see what they hold. The demonstration runs once for all tests with a browser: each leaves it as it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.sync_api import Page, sync_playwright

from tongshi.clock import SystemClock
from tongshi.config.sections import Config
from tongshi.demo.client import Console
from tongshi.demo.processes import Child, Children
from tongshi.demo.topology import (
    SimulatedCamera,
    Site,
    Topology,
    build,
    config,
    fleet,
    free_port,
    write_toml,
)
from tongshi.errors import TongshiError
from tongshi.testing.camera import Camera
from tongshi.testing.clips import write_clip
from tongshi.testing.plan import CameraConfig, Faults, configs
from tongshi.testing.rest_platform import PASSWORD as SERVED_PASSWORD
from tongshi.testing.scenery import WORLDS
from tongshi.testing.studio import Studio

USER, PASSWORD = "admin", "Broken-Platform-71"
LINGER_S = 1.0
BEAT_S = 2
MEDIA_WAIT_S = 2.5
ANSWER_WAIT_S = 4.0
# The first camera's pictures are heavy, so that a viewer who does not read is noticed soon.
HEAVY_KBPS = 6_000
CAMERAS = 3

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CONSOLE = Path(__file__).parents[2] / "src" / "tongshi" / "web" / "static" / "index.html"
PICTURES = Path(os.environ.get("TONGSHI_SCREENSHOTS", "var/screenshots"))
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
READY_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds; ``links`` are its open files by target.

    Memory is the process's own: pages of a mapped database are the system's to take back.
    """

    files: int
    threads: int
    private_kb: int
    links: tuple[str, ...] = field(repr=False)


class World:
    """Two platforms, their consoles and the cameras of the lower one."""

    def __init__(self, folder: Path, clips: Path) -> None:
        self.is_broken = False  # did a test leave it so that the others need not try?
        self._folder = folder
        self._studio = Studio(clips, SystemClock())
        self._children = Children(folder)
        self._starts = 0
        self._plans: dict[str, CameraConfig] = {}
        self.topology = _two_sites()
        self.running: dict[str, Child] = {}
        self.consoles: dict[str, Console] = {}
        self.cameras: dict[str, Camera] = {}
        self.missing: dict[str, set[Any]] = {}

    # Platforms.

    def site(self, key: str) -> Site:
        return self.topology.site(key)

    def settings(self, key: str) -> Config:
        """The configuration of a platform: the demonstration's, with shorter waits."""
        made = config(self.topology, self.site(key), self._folder)
        change = msgspec.structs.replace
        return change(
            made,
            signalling=change(
                made.signalling,
                keepalive_interval_s=BEAT_S,
                registration_retry_s=1.0,
                answer_timeout_s=ANSWER_WAIT_S,
            ),
            media=change(
                made.media,
                linger_s=LINGER_S,
                first_packet_timeout_s=MEDIA_WAIT_S,
                first_key_frame_timeout_s=MEDIA_WAIT_S,
            ),
            exchange=change(made.exchange, interval_s=1.0),
        )

    async def start(self, key: str, settings: Config | None = None) -> None:
        """Start a platform and sign in; the first time, create its administrator."""
        path = self._folder / key / "tongshi.toml"
        write_toml(settings or self.settings(key), path)
        self._starts += 1
        child = await self._children.start(f"{key}-{self._starts}", "serve", "--config", str(path))
        self.running[key] = child
        if key in self.consoles:
            await self.consoles[key].__aexit__(None, None, None)
        console = self.consoles[key] = Console(self.site(key).url)
        await self.until(lambda: self._is_up(console), 30, f"{key} does not start")
        code = path.with_name("setup-code")
        if code.exists():
            await console.set_up(code.read_text().strip(), USER, PASSWORD)
        else:
            await console.sign_in(USER, PASSWORD)

    async def _is_up(self, console: Console) -> bool:
        self._children.check()
        return await console.is_up()

    async def kill(self, key: str) -> None:
        """End a platform as a power failure does."""
        child = self.running.pop(key)
        child.process.kill()
        await child.process.wait()
        self._children.forget(child)

    async def terminate(self, key: str, timeout_s: float) -> int:
        """End a platform in order; its exit code. Raises TimeoutError."""
        child = self.running.pop(key)
        child.process.terminate()
        code = await asyncio.wait_for(child.process.wait(), timeout_s)
        self._children.forget(child)
        return code

    def footprint(self, key: str) -> Footprint:
        """What a platform's process holds now."""
        process = Path("/proc") / str(self.running[key].process.pid)
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        links = sorted(os.readlink(entry) for entry in (process / "fd").iterdir())
        return Footprint(len(links), int(fields["Threads"]), int(fields["RssAnon"].split()[0]), tuple(links))

    def udp_ports(self, key: str) -> set[int]:
        """The media ports a platform has open: every UDP port of its process but the SIP one."""
        folder = Path("/proc") / str(self.running[key].process.pid) / "fd"
        links = {os.readlink(entry) for entry in folder.iterdir() if entry.exists() or entry.is_symlink()}
        found = set()
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            columns = line.split()
            if f"socket:[{columns[9]}]" in links:
                found.add(int(columns[1].rpartition(":")[2], 16))
        return found - {self.site(key).sip_port}

    def log(self, key: str) -> str:
        """What a platform logged since its start."""
        return self.running[key].log.read_text(errors="replace")

    # Cameras.

    @property
    def heavy(self) -> str:
        """The camera with the largest pictures."""
        return self.topology.cameras[0].id

    async def add_cameras(self) -> None:
        """Start the cameras."""
        plan = fleet(self.topology, self._folder)
        rows = tuple(
            msgspec.structs.replace(
                row, scene="crossing-day", rate_kbps=HEAVY_KBPS if number == 0 else row.rate_kbps
            )
            for number, row in enumerate(plan.camera)
        )
        plan = msgspec.structs.replace(plan, camera=rows, keepalive_s=2.0, retry_s=1.0)
        self._plans = {one.id: one for one in configs(plan)}
        for code in self._plans:
            await self.replace_camera(code)

    async def replace_camera(self, code: str) -> None:
        """Put a working camera where one stood or died."""
        if code in self.cameras:
            await self.cameras[code].stop()
        camera = self.cameras[code] = Camera(self._plans[code], self._studio)
        await camera.start()

    # What tests do and wait for.

    async def open(self, code: str, at: str = "city", **wish: object) -> dict[str, Any]:
        """Ask for a live picture. Raises PeerFailed with the platform's number and words."""
        body = {"DeviceID": code, "protocol": ["http-flv"], **wish}
        answer: dict[str, Any] = await self.consoles[at].call("POST", "/api/v1/video/live/url", body)
        return answer

    async def crowd(self, at: str, people: int) -> None:
        """Many questions at once over connections of their own, which are closed afterwards."""
        async with Console(self.site(at).url) as crowd:
            await crowd.sign_in(USER, PASSWORD)
            await asyncio.gather(*(crowd.call("GET", "/api/v1/archive/devices") for _ in range(people)))

    async def session(self, session_id: str, at: str = "city") -> dict[str, Any]:
        """The timeline of a session."""
        found: dict[str, Any] = await self.consoles[at].call("GET", f"/api/v1/video/sessions/{session_id}")
        return found

    async def streams(self, at: str) -> list[dict[str, Any]]:
        """The sources a platform holds."""
        rows: list[dict[str, Any]] = (await self.consoles[at].call("GET", "/api/v1/video/streams"))["list"]
        return rows

    async def neighbour(self, of: str, key: str) -> dict[str, Any]:
        """What one platform says of another on its exchange page."""
        rows = (await self.consoles[of].call("GET", "/api/v1/platforms"))["list"]
        found: dict[str, Any] = next(row for row in rows if row["platformId"] == self.site(key).id)
        return found

    async def ready(self) -> None:
        """Wait until everything is registered, known above, equal, and nothing is being watched."""
        for camera in self.cameras.values():
            camera.faults = Faults()
        await self.until(self._is_ready, 30, lambda: f"the platforms do not come to rest: {self.missing}")

    async def _is_ready(self) -> bool:
        devices = (await self.consoles["city"].call("GET", "/api/v1/archive/devices?pageSize=50"))["list"]
        district = await self.neighbour("city", "huangpu")
        city = await self.neighbour("huangpu", "city")
        self.missing = {
            "registered": {code for code, one in self.cameras.items() if not one.registered.is_set()},
            "known above": set(self.cameras) - {row["DeviceID"] for row in devices if row["Status"] == "ON"},
            "online": {key for key, row in {"huangpu": district, "city": city}.items() if not row["online"]},
            "equal": set() if district["equal"] else {district["lastError"]},
            "released": set() if await self.is_quiet() else {"no"},
        }
        return not any(self.missing.values())

    async def is_quiet(self) -> bool:
        """Is nothing being watched anywhere?"""
        held = [stream for key in self.running for stream in await self.streams(key)]
        return not held and not any(camera.calls.count for camera in self.cameras.values())

    async def until(
        self, holds: Callable[[], bool | Awaitable[bool]], timeout_s: float, what: str | Callable[[], str]
    ) -> float:
        """Poll a condition for a bounded time; the seconds it took."""
        began = time.monotonic()
        while True:
            try:
                found = holds()
                if found if isinstance(found, bool) else await found:
                    return time.monotonic() - began
            except (TongshiError, OSError):
                pass  # a platform that is starting or ending
            assert time.monotonic() - began < timeout_s, what if isinstance(what, str) else what()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """End everything."""
        for camera in self.cameras.values():
            await camera.stop()
        for console in self.consoles.values():
            await console.__aexit__(None, None, None)
        await self._children.end()
        await asyncio.to_thread(self._studio.close)


class Viewing:
    """A viewer that counts what it gets, or does not read at all."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = 0
        self.longest_gap_s = 0.0
        self.ended = asyncio.Event()
        self.head = b""
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def of(cls, url: str, *, receive_buffer: int = 0) -> Viewing:
        """Connect and send the request; nothing is read yet."""
        address, _, path = url.removeprefix("http://").partition("/")
        host, _, port = address.partition(":")
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, f"GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        return cls(connection)

    def read_on(self) -> Viewing:
        """Read in the background until the other side closes."""
        self._task = asyncio.get_running_loop().create_task(self._read())
        return self

    async def _read(self) -> None:
        loop, last = asyncio.get_running_loop(), time.monotonic()
        try:
            while part := await loop.sock_recv(self.connection, 1 << 16):
                now = time.monotonic()
                if self.received:
                    self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now
                self.head = self.head or part[:16]
                self.received += len(part)
        except OSError:
            pass  # a reset ends it as well
        self.ended.set()

    async def close(self) -> None:
        """Leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.connection.close()


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short scene."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "crossing-day.mp4", WORLDS["crossing-day"](), frames=10)
    return folder


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def the_world(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One world for all tests that break it."""
    world = World(tmp_path_factory.mktemp("world"), scene_folder)
    try:
        for key in ("city", "huangpu"):
            await world.start(key)
        await world.add_cameras()
        yield world
    finally:
        await world.close()


@pytest_asyncio.fixture(loop_scope="session")
async def world(the_world: World) -> World:
    """The world at rest, whatever the test before did to it."""
    assert not the_world.is_broken, "an earlier test left the platforms unable to come to rest"
    the_world.is_broken = True
    for key in ("city", "huangpu"):
        if key not in the_world.running:
            await the_world.start(key)
    await the_world.ready()
    the_world.is_broken = False
    return the_world


@pytest.fixture
def viewer() -> type[Viewing]:
    """How to watch."""
    return Viewing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of tests with a browser are named for it."""
    marks = [
        pytest.mark.e2e,
        pytest.mark.browser,
        pytest.mark.timeout(240),
        pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED ALOUD: Debian's chromium is not installed"),
        pytest.mark.skipif(
            not CONSOLE.exists(), reason="SKIPPED ALOUD: the console is not built (make setup)"
        ),
    ]
    for item in items:
        if item.path.stem.endswith("_browser"):
            for mark in marks:
                item.add_marker(mark)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demonstration keeps its platforms."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="package")
def demo(demo_folder: Path) -> Iterator[dict[str, str]]:
    """The demonstration, running; what it announces."""
    ready, log = demo_folder / "ready.json", demo_folder / "demo.log"
    # Workers of one run stand beside each other.
    offset = 1100 + 900 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    command = [sys.executable, "-m", "tongshi.cli", "demo", "--folder", str(demo_folder / "run")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), "--port-offset", str(offset)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        yield _announced(process, ready, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture(scope="module")
def page(demo: dict[str, str]) -> Iterator[Page]:
    """A signed-in console. Of one module: the browser's driver keeps a loop in this thread."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="zh-CN")
        page.goto(demo["url"])
        page.fill("input[name=user]", demo["user"])
        page.fill("input[name=password]", demo["password"])
        page.screenshot(path=PICTURES / "sign-in.png")
        page.click("[data-test=submit]")
        page.wait_for_selector("[data-test=devices] li")
        yield page
        browser.close()


@pytest.fixture(scope="session")
def signed_in() -> Callable[..., AbstractContextManager[Page]]:
    """How to sign in to a served platform (``tongshi.testing.served``) with a browser of one's own."""

    @contextmanager
    def sign_in(url: str, flags: Sequence[str] = ()) -> Iterator[Page]:
        PICTURES.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*BROWSER_FLAGS, *flags])
            page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="zh-CN")
            page.set_default_timeout(15_000)
            page.goto(url)
            page.fill("input[name=user]", "admin")
            page.fill("input[name=password]", SERVED_PASSWORD)
            page.click("[data-test=submit]")
            page.wait_for_selector("nav")
            yield page
            browser.close()

    return sign_in


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait for an expression. Not ``wait_for_function``: the console's policy forbids eval in the page."""

    def wait(page: Page, expression: str, timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not page.evaluate(expression):
            assert time.monotonic() < end, f"{expression}\n{page.inner_text('body')}"
            page.wait_for_timeout(100)

    return wait


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where pictures of pages are kept for people to look at."""
    return PICTURES


def _announced(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, str]:
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")
        if ready.exists() and (text := ready.read_text()):
            found: dict[str, str] = json.loads(text)
            return found
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


def _two_sites() -> Topology:
    """The demonstration's city and first district, away from the ports of one that runs beside."""
    whole = build()
    taken: set[int] = set()
    first = 20_000 + os.getpid() % 500 * 20
    sites = tuple(
        replace(
            site,
            http_port=free_port(first, taken),
            sip_port=free_port(first, taken),
            media_port=free_port(first, taken),
        )
        for site in whole.sites
        if site.key in ("city", "huangpu")
    )
    cameras: list[SimulatedCamera] = [one for one in whole.cameras if one.site == "huangpu"]
    return Topology(
        sites, tuple(one for one in whole.links if one.lower == "huangpu"), tuple(cameras[:CAMERAS])
    )
