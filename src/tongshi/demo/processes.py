"""Child processes of the demonstration: started in their own group, watched, and ended by their id."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

END_TIMEOUT_S = 10.0


class ChildFailed(Exception):
    """A child process ended by itself; carries the end of its log."""


@dataclass(slots=True)
class Child:
    """One running child."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def tail(self, lines: int = 12) -> str:
        """The last lines it wrote."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class Children:
    """Starts children and ends them all, whatever happened in between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    async def start(self, name: str, *arguments: str) -> Child:
        """Run ``tongshi <arguments>`` with its output in ``<folder>/<name>.log``."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tongshi.cli",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raises ChildFailed when a child ended by itself."""
        for child in self._children:
            if child.process.returncode is not None:
                code = child.process.returncode
                raise ChildFailed(f"{child.name} 已退出（{code}），日志 {child.log}：\n{child.tail()}")

    def forget(self, child: Child) -> None:
        """Let go of a child that was ended on purpose."""
        self._children.remove(child)

    async def end(self) -> None:
        """Ask every child to end, wait, and kill what does not."""
        for child in self._children:
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                await asyncio.wait_for(child.process.wait(), END_TIMEOUT_S)
            except TimeoutError:
                child.process.kill()
                await child.process.wait()
        self._children.clear()
