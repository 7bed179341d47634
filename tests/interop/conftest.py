"""Fixtures of the tests against other people's software, which Debian brings. What is missing is named."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tongshi.testing.small_platform import PlatformPlan, SmallPlatform

SCENARIOS = Path(__file__).parent / "scenarios"
HOST = "127.0.0.1"
PLATFORM = "31010100002000000001"
SECRET = "gb-2022"  # of a test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs other software: it runs by ``make test-interop`` and not by ``make test``."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.interop)


def needed(command: str, package: str) -> str:
    """Path of a program, or skip naming the package that brings it."""
    found = shutil.which(command)
    if found is None:
        pytest.skip(f"{command} is missing; Debian: apt-get install {package}")
    return found


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of SIPp ended: its exit status, what it printed of errors, what it saw on the wire."""

    status: int
    errors: str
    messages: str


class Sipp:
    """SIPp playing a scenario of ours, on a port of its own.

    ``rows`` are the lines of the CSV that the scenario reads, fields joined by ``;``.
    """

    def __init__(self, folder: Path) -> None:
        self._program = needed("sipp", "sip-tester")
        self._folder = folder
        self._runs = 0
        self._processes: list[asyncio.subprocess.Process] = []

    async def begin(
        self,
        scenario: str,
        *,
        to: int = 0,
        rows: Sequence[str] = (),
        calls: int = 1,
        rate: int = 10,
        port: int = 0,
        out_of_call: str = "",
        pause_ms: int = 0,
        transport: str = "u1",
        timeout_s: int = 30,
    ) -> SippRun:
        """Start; ``to`` 0 is a server that waits to be called."""
        self._runs += 1
        port = port or free_port()
        stem = self._folder / f"{self._runs}-{scenario}"
        arguments = ["-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", HOST, "-p", str(port), "-t", transport]
        arguments += ["-m", str(calls), "-r", str(rate), "-l", str(max(calls, 1)), "-nostdin"]
        arguments += ["-d", str(pause_ms)]
        arguments += ["-timeout", f"{timeout_s}s", "-timeout_error", "-recv_timeout", str(timeout_s * 1000)]
        arguments += [
            "-trace_err",
            "-error_file",
            f"{stem}.err",
            "-trace_msg",
            "-message_file",
            f"{stem}.msg",
        ]
        if rows:
            table = stem.with_suffix(".csv")
            await asyncio.to_thread(table.write_text, "\n".join(("SEQUENTIAL", *rows)) + "\n")
            arguments += ["-inf", str(table)]
        if out_of_call:
            arguments += ["-oocsf", str(SCENARIOS / f"{out_of_call}.xml")]
        if to:
            arguments.append(f"{HOST}:{to}")
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._processes.append(process)
        return SippRun(process, stem, port, timeout_s + 10)

    async def close(self) -> None:
        """End what still runs."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


class SippRun:
    """A running SIPp."""

    def __init__(self, process: asyncio.subprocess.Process, stem: Path, port: int, limit_s: float) -> None:
        self.port = port
        self._process, self._stem, self._limit_s = process, stem, limit_s

    async def stop(self) -> Run:
        """End a server that would wait for more calls: SIPp leaves politely at SIGUSR1."""
        self._process.send_signal(signal.SIGUSR1)
        return await self.end()

    async def end(self) -> Run:
        """Wait for its end."""
        output, _ = await asyncio.wait_for(self._process.communicate(), self._limit_s)
        errors = await asyncio.to_thread(_read, self._stem.with_suffix(".err"))
        messages = await asyncio.to_thread(_read, self._stem.with_suffix(".msg"))
        status = self._process.returncode
        assert status is not None  # it has ended
        return Run(
            status, _troubles(errors) or output.decode(errors="replace")[-2000:] * bool(status), messages
        )


def _troubles(errors: str) -> str:
    """What SIPp complains of; that something came outside a call is what our scenarios wait for."""
    lines = errors.replace("The following events occurred:", "").splitlines()
    return "\n".join(line for line in lines if line.strip() and "using the out-of-call scenario" not in line)


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def free_port() -> int:
    """A port free for UDP and TCP at this moment."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind((HOST, 0))
            port: int = datagrams.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
                try:
                    stream.bind((HOST, port))
                except OSError:
                    continue
                return port
    raise OSError("no port free")


@pytest.fixture
async def sipp(tmp_path: Path) -> AsyncIterator[Sipp]:
    made = Sipp(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def platforms(tmp_path: Path) -> AsyncIterator[Platforms]:
    made = Platforms(tmp_path)
    yield made
    await made.close()


class Platforms:
    """Small platforms of one test, stopped in the order opposite to their start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[SmallPlatform] = []

    async def start(self, plan: PlatformPlan) -> SmallPlatform:
        """Start one that does not forget a peer for want of heartbeats within a test."""
        plan = replace(plan, beat=replace(plan.beat, interval_s=5.0))
        platform = await SmallPlatform.start(plan, self._folder / str(len(self._started)))
        self._started.append(platform)
        return platform

    async def close(self) -> None:
        for platform in reversed(self._started):
            await platform.stop()


@pytest.fixture
async def platform(platforms: Platforms) -> SmallPlatform:
    """A platform with which devices register."""
    return await platforms.start(PlatformPlan(PLATFORM))


@pytest.fixture
def program() -> Callable[[str, str], str]:
    """See ``needed``."""
    return needed


@pytest.fixture
def free_ports() -> Callable[[], int]:
    """See ``free_port``."""
    return free_port
