"""A private PostgreSQL for tests: found on the machine, started on loopback, ended by its pid.

Nothing needs preparing: Debian's package brings the programs. As root the server runs as an unprivileged
user, because PostgreSQL refuses root. Data lives in a temporary folder and does not survive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import asyncpg

_INSTALLED = Path("/usr/lib/postgresql")
_OLDEST = 15
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
# Durability of a test database is worth nothing; its speed is.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "autovacuum": "off",
    "deadlock_timeout": "100ms",
    "log_min_messages": "fatal",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


# For measurements: memory as docs/architecture.md 4 advises, a quarter of a small server's.
AS_ADVISED = {"shared_buffers": "2GB"}


class PostgresMissing(Exception):
    """No usable PostgreSQL on this machine; the text says what to install."""


class PostgresFailed(Exception):
    """PostgreSQL is there and does not work."""


def find_programs() -> Path:
    """Folder of initdb and postgres, the newest installed. Raises PostgresMissing."""
    found = sorted(
        (path for path in _INSTALLED.glob("*/bin") if path.parent.name.isdigit()),
        key=lambda path: int(path.parent.name),
    )
    if found and int(found[-1].parent.name) >= _OLDEST and (found[-1] / "initdb").exists():
        return found[-1]
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    raise PostgresMissing(f"PostgreSQL {_OLDEST} or later is missing: apt-get install postgresql")


@contextlib.contextmanager
def private_postgres(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server for the time of the context; yields ``postgresql://tongshi@127.0.0.1:port``."""
    with PrivatePostgres(settings) as server:
        yield server.url


class PrivatePostgres:
    """A server that can be stopped and started again on the same data and port, as an operator's would be.

    Args:
        settings: instead of or beside those of a test, for example ``{"synchronous_commit": "on"}``.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._programs = find_programs()
        self._user = _unprivileged_user()
        self._folder = Path(tempfile.mkdtemp(prefix="tongshi-pg-"))
        self._settings = {**_SETTINGS, **(settings or {})}
        self._port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://tongshi@127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        try:
            if self._user is not None:
                os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            _initialise(self._programs, self._folder / "data", self._user)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and wait until it listens; nothing when it runs."""
        if self._server is not None and self._server.poll() is None:
            return
        user = self._user
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        data = str(self._folder / "data")
        self._server = subprocess.Popen(  # noqa: S603 - the program was found, not given
            [str(self._programs / "postgres"), "-D", data, "-p", str(self._port), *settings],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )
        _wait_until_ready(self._server, self._port)

    def stop(self) -> None:
        """Stop as if the power went: nothing is written back, and the next start recovers from the log."""
        if self._server is not None:
            _stop(self._server)
            self._server = None

    def limit_files(self, size_bytes: int | None) -> None:
        """Let no file of the running server grow past a size, as on a full disk; None lifts it.

        By util-linux's ``prlimit`` as the server's own user: not even root may limit others without a
        capability that containers lack.
        """
        program = shutil.which("prlimit")
        if program is None:
            raise PostgresFailed("prlimit (Debian: util-linux) is missing")
        limit = "unlimited" if size_bytes is None else str(size_bytes)
        for pid in self.pids():
            # One that ended meanwhile needs no limit.
            subprocess.run(  # noqa: S603 - the program was found, not given
                [program, "--pid", str(pid), f"--fsize={limit}:unlimited"],
                capture_output=True,
                timeout=10,
                check=False,
                cwd="/",
                user=None if self._user is None else self._user.pw_uid,
            )

    def pids(self) -> list[int]:
        """The server's processes that run now, the parent first."""
        if self._server is None or self._server.poll() is not None:
            return []
        parent = self._server.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
            return [parent, *map(int, children.split())]
        return [parent]


async def create_database(server_url: str, name: str, template: str = "template0") -> str:
    """Make a database from a template and return its URL."""
    await _administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return f"{server_url}/{name}"


async def drop_database(server_url: str, name: str) -> None:
    """Remove a database, with whoever is still connected."""
    await _administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def empty_database(url: str, keep: str) -> bool:
    """Empty every table but ``keep``, much faster than a new database. False when one is held."""
    connection = await _connect(url)
    try:
        await connection.execute("SET lock_timeout = '500ms'")
        await connection.execute(_EMPTY.format(keep=keep))
    except asyncpg.LockNotAvailableError:
        return False
    finally:
        await connection.close()
    return True


# Only tables that hold something are truncated: that is what takes the time.
_EMPTY = """
DO $$ DECLARE t text; filled bool; BEGIN
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '{keep}' LOOP
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', t) INTO filled;
    IF filled THEN EXECUTE format('TRUNCATE %I RESTART IDENTITY', t); END IF;
  END LOOP;
END $$
"""


async def _administer(server_url: str, statement: str) -> None:
    connection = await _connect(f"{server_url}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    ends_at = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return await asyncpg.connect(url)
        except asyncpg.CannotConnectNowError:
            # It listens before it serves.
            if time.monotonic() > ends_at:
                raise
            await asyncio.sleep(0.02)


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissing("PostgreSQL does not run as root and there is no user postgres or nobody")


def _initialise(programs: Path, data: Path, user: pwd.struct_passwd | None) -> None:
    done = subprocess.run(  # noqa: S603 - the program was found, not given
        [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "tongshi",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        check=False,
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        raise PostgresFailed(f"initdb failed: {done.stderr.strip()[-300:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    ends_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < ends_at:
        if server.poll() is not None:
            raise PostgresFailed(f"postgres ended with {server.returncode} while starting")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise PostgresFailed("postgres did not start in time")


def _stop(server: subprocess.Popen[bytes]) -> None:
    # SIGQUIT is PostgreSQL's immediate shutdown: it ends its own children and saves nothing.
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGQUIT)
    try:
        server.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
