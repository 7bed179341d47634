"""A real ``tongshi media-node`` in a process of its own, on loopback, to be killed and started again."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tongshi.gateways.media.nodes.farm import OwnAccount
from tongshi.testing.small_platform import RTSP_UDP_PORTS

HOST = "127.0.0.1"
SECRET = "of-a-test-of-nodes"  # noqa: S105  # of a test
START_LIMIT_S = 30.0


def _free_port() -> int:
    """A port for RTSP, whose 0 stands for none: below what the system gives away by itself."""
    while True:
        port = random.randrange(24_000, 30_000)  # several workers look at once
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


class NodeProcess:
    """One node; its ports stay when it is started again.

    Args:
        tls: files of a certificate and its key, with which it is commanded by https.
    """

    def __init__(
        self, folder: Path, platform_id: str, name: str = "east", tls: tuple[str, str] | None = None
    ) -> None:
        self.name = name
        self._tls = tls
        self.control_port = self.viewer_port = 0
        self.rtsp_port = 0
        self._folder, self._platform_id = folder, platform_id
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        return f"http{'s' if self._tls else ''}://{HOST}:{self.control_port}"

    @property
    def viewer_url(self) -> str:
        return f"http://{HOST}:{self.viewer_port}"

    @property
    def rtsp_url(self) -> str:
        return f"rtsp://{HOST}:{self.rtsp_port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def account(self, places: tuple[str, ...] = ("310101",)) -> OwnAccount:
        """How its platform names it."""
        return OwnAccount(
            self.name,
            self.api,
            SECRET,
            HOST,
            self.viewer_url,
            places,
            platform_id=self._platform_id,
            rtsp_url=self.rtsp_url,
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.rtsp_port = self.rtsp_port or _free_port()
        first, last = RTSP_UDP_PORTS
        shown = f'certificate = "{self._tls[0]}"\nkey = "{self._tls[1]}"\n' if self._tls else ""
        config, output = self._folder / f"{self.name}.toml", self._folder / f"{self.name}.log"
        config.write_text(
            f'[node]\nname = "{self.name}"\nplatform = "{self._platform_id}"\nsecret = "{SECRET}"\n'
            f"port = {self.control_port}\n{shown}"
            f"[media]\nhttp_port = {self.viewer_port}\nrtsp_port = {self.rtsp_port}\n"
            f"rtsp_udp_first_port = {first}\nrtsp_udp_last_port = {last}\n",
            encoding="utf-8",
        )
        with output.open("wb") as sink:
            command = [sys.executable, "-m", "tongshi.cli", "media-node", "--config", str(config)]
            self._process = subprocess.Popen(command, stderr=sink)  # noqa: S603  # our own command
        started = self._started(output)
        self.control_port = int(started["control"].rpartition(":")[2])
        self.viewer_port = int(started["viewers"].rpartition(":")[2])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop it, unless it was killed; one that ended by itself did not end in order."""
        if self._process is not None:
            assert self.stop() == 0

    def kill(self) -> None:
        """Kill it: nothing is said to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> int:
        """Stop it in order; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(START_LIMIT_S)

    def _started(self, output: Path) -> dict[str, str]:
        ends = time.monotonic() + START_LIMIT_S
        while self.is_running and time.monotonic() < ends:
            for line in output.read_text(encoding="utf-8").splitlines():
                if '"media_node_started"' in line and line.endswith("}"):
                    found: dict[str, str] = json.loads(line)
                    return found
            time.sleep(0.02)
        raise AssertionError(output.read_text(encoding="utf-8"))
