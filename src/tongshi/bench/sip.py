"""``tongshi bench sip``: heartbeats and registrations on one core, with storage, beside a bare UDP echo.

``--storm``, ``--catalogue`` and ``--ptz`` measure those instead (``sip_storm`` and the others beside it).

The platform's signalling runs in a process of its own on one core, with a temporary SQLite file; the
generator on another core keeps a window of requests open. Figures are requests a second of the platform's
processor time (``per_cpu_s``), which does not depend on how much of its core it got, and of wall time
(``per_s``). A
registration is the whole exchange: REGISTER, 401, REGISTER with digest, record, 200. The same is measured
without timelines (``trace_memory_mb = 0``), so that their cost is a figure of the same run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import md5
from multiprocessing.connection import Connection

import structlog

from tongshi.bench import sip_catalogue, sip_ptz
from tongshi.bench.sip_platform import HOST, PLATFORM, REALM, SECRET, TICK_S, Setup, child, cpu_s
from tongshi.bench.sip_platform import platform as platform_process
from tongshi.bench.sip_storm import INTERVAL_S, Storm

WINDOW = 64
_CASES = ("keepalives", "keepalives_untraced", "registrations", "registrations_untraced")


@dataclass(frozen=True, slots=True)
class Round:
    """One measured stretch."""

    done: int
    wall_s: float
    cpu_s: float


def run(*, rounds: int = 5, seconds: float = 2.0, devices: int = 200) -> dict[str, object]:
    """Measure; cases alternate within each round, so that all meet the same weather."""
    cores = sorted(os.sched_getaffinity(0))
    quick = Setup(retries=0, idle_s=1.0)
    measured: dict[str, list[Round]] = {name: [] for name in ("udp_echo", *_CASES)}
    with (
        tempfile.TemporaryDirectory() as folder,
        child(platform_process, cores[0], folder, quick) as platform,
        child(platform_process, cores[0], folder, replace(quick, trace_bytes=0)) as untraced,
        child(_echo, cores[0]) as echo,
    ):
        os.sched_setaffinity(0, {cores[-1]})
        try:
            generator = _Generator(platform.port, devices)
            generator.register_all()
            silent = _Generator(untraced.port, devices)
            silent.register_all()
            for _ in range(rounds):
                measured["udp_echo"].append(_Generator(echo.port, devices).keepalives(echo.pid, seconds))
                measured["keepalives"].append(generator.keepalives(platform.pid, seconds))
                measured["keepalives_untraced"].append(silent.keepalives(untraced.pid, seconds))
                measured["registrations"].append(generator.registrations(platform.pid, seconds))
                measured["registrations_untraced"].append(silent.registrations(untraced.pid, seconds))
        finally:
            os.sched_setaffinity(0, set(cores))
    figures: dict[str, object] = {name: _summary(found) for name, found in measured.items()}
    echo_rate = statistics.median(_per_cpu_s(one) for one in measured["udp_echo"])
    for name in _CASES:
        rate = statistics.median(_per_cpu_s(one) for one in measured[name])
        figures[f"{name}_cost_of_echo"] = round(echo_rate / rate, 1)
    return {"rounds": rounds, "seconds": seconds, "devices": devices, "cores": len(cores), **figures}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``tongshi bench sip``."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measured stretch")
    parser.add_argument("--devices", type=int, default=200, help="registered devices")
    parser.add_argument(
        "--storm",
        type=int,
        nargs="?",
        const=20_000,
        metavar="N",
        help="so many devices register together, then stay alive",
    )
    parser.add_argument("--within", type=float, default=50.0, help="seconds over which the storm sets in")
    parser.add_argument(
        "--beat-minutes", type=float, default=3.0, help="heartbeats after the storm (30 by the goal)"
    )
    parser.add_argument(
        "--catalogue", type=int, metavar="N", help="a catalogue of so many channels, taken in and told"
    )
    parser.add_argument(
        "--transport", choices=("tcp", "udp", "both"), default="both", help="of the catalogue"
    )
    parser.add_argument(
        "--ptz", type=int, nargs="?", const=500, metavar="N", help="so many commands over one and two levels"
    )


def run_cli(args: argparse.Namespace) -> int:
    """Measure and print; standard output has the figures and nothing else."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures: dict[str, object] = {}
    if args.storm:
        figures["storm"] = storm(args.storm, args.within, args.beat_minutes)
    if args.catalogue:
        transports = ("tcp", "udp") if args.transport == "both" else (args.transport,)
        figures["catalogue"] = sip_catalogue.run(args.catalogue, transports)
    if args.ptz:
        figures["ptz"] = sip_ptz.run(args.ptz)
    if not figures:
        figures = run(rounds=args.rounds, seconds=args.seconds, devices=args.devices)
    if args.json:
        json.dump(figures, sys.stdout, indent=2)
        print()
        return 0
    for name, value in figures.items():
        if isinstance(value, dict) and "per_cpu_s" in value:
            spread = f"{value['per_cpu_s_min']}-{value['per_cpu_s_max']}"
            print(f"{name:22} {value['per_cpu_s']:>8}/cpu s  ({spread})  {value['per_s']:>8}/s")
        else:
            _print(name, value)
    return 0


def storm(
    devices: int, within_s: float, beat_minutes: float, interval_s: float = INTERVAL_S
) -> dict[str, object]:
    """The storm and the calm after it."""
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        child(platform_process, cores[0], folder, Setup(retries=2, idle_s=5.0)) as platform,
    ):
        os.sched_setaffinity(0, {cores[-1]})
        try:
            return Storm(platform, devices, within_s, interval_s).run(beat_minutes)
        finally:
            os.sched_setaffinity(0, set(cores))


def _print(name: str, value: object) -> None:
    """A figure, or a table of them with their path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _print(f"{name}.{key}", inner)
    else:
        print(f"{name:40} {value}")


def _echo(pipe: Connection, core: int) -> None:
    """The baseline: receive and send back, nothing else."""
    os.sched_setaffinity(0, {core})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(0.5)
        pipe.send(server.getsockname()[1])
        while not pipe.poll():
            try:
                while True:
                    data, source = server.recvfrom(65_536)
                    server.sendto(data, source)
            except TimeoutError:
                continue


class _Generator:
    """Keeps a window of requests open from one socket; every request names its own device."""

    def __init__(self, port: int, devices: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((HOST, 0))
        self._socket.connect((HOST, port))
        self._socket.settimeout(2.0)
        self._own = f"{HOST}:{self._socket.getsockname()[1]}"
        self._devices = devices
        self._device = self._number = 0

    def register_all(self) -> None:
        """Every device once; their first catalogue queries are refused."""
        self._run(self._devices, None, self._register, self._registered)

    def keepalives(self, pid: int, seconds: float) -> Round:
        """Heartbeats until the time is over; an echo counts as an answer."""
        return self._measure(pid, seconds, self._keepalive, lambda data: True)

    def registrations(self, pid: int, seconds: float) -> Round:
        """Whole registrations until the time is over."""
        return self._measure(pid, seconds, self._register, self._registered)

    def _measure(
        self, pid: int, seconds: float, request: Callable[[], bytes], is_done: Callable[[bytes], bool]
    ) -> Round:
        began, cpu_began = time.perf_counter(), cpu_s(pid)
        done = self._run(None, began + seconds, request, is_done)
        return Round(done, time.perf_counter() - began, cpu_s(pid) - cpu_began)

    def _run(
        self,
        count: int | None,
        until: float | None,
        request: Callable[[], bytes],
        is_done: Callable[[bytes], bool],
    ) -> int:
        done = sent = 0
        for _ in range(min(WINDOW, count or WINDOW)):
            self._socket.send(request())
            sent += 1
        while done < sent:
            data = self._socket.recv(65_536)
            if data.startswith(b"MESSAGE") and b"<Query>" in data:
                self._refuse(data)
                continue
            if not is_done(data):
                continue
            done += 1
            if (count is not None and sent < count) or (until is not None and time.perf_counter() < until):
                self._socket.send(request())
                sent += 1
        return done

    def _keepalive(self) -> bytes:
        code, number = self._next()
        body = (
            '<?xml version="1.0" encoding="GB18030"?>\r\n<Notify>\r\n<CmdType>Keepalive</CmdType>\r\n'
            f"<SN>{number}</SN>\r\n<DeviceID>{code}</DeviceID>\r\n<Status>OK</Status>\r\n</Notify>\r\n"
        )
        head = self._head("MESSAGE", code, number, number)
        kind = "Content-Type: Application/MANSCDP+xml"
        return f"{head}{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def _register(self) -> bytes:
        code, number = self._next()
        return f"{self._head('REGISTER', code, number, 1)}Content-Length: 0\r\n\r\n".encode()

    def _registered(self, data: bytes) -> bool:
        """A challenge is answered; the 200 ends the registration."""
        if not data.startswith(b"SIP/2.0 401"):
            return data.startswith(b"SIP/2.0 200")
        nonce = data.partition(b'nonce="')[2].partition(b'"')[0].decode()
        code = data.partition(b"From: <sip:")[2][:20].decode()
        self._number += 1
        uri = f"sip:{PLATFORM}@{REALM}"
        secret = _md5(f"{code}:{REALM}:{SECRET}")
        response = _md5(f"{secret}:{nonce}:{_md5(f'REGISTER:{uri}')}")
        head = self._head("REGISTER", code, self._number, 2)
        self._socket.send(
            f'{head}Authorization: Digest username="{code}", realm="{REALM}", nonce="{nonce}", uri="{uri}", '
            f'response="{response}", algorithm=MD5\r\nContent-Length: 0\r\n\r\n'.encode()
        )
        return False

    def _refuse(self, data: bytes) -> None:
        """404 for a query: the generator's devices have no catalogue."""
        lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        kept = [
            ln for ln in lines if ln.split(b":")[0].lower() in (b"via", b"from", b"to", b"call-id", b"cseq")
        ]
        self._socket.send(b"\r\n".join([b"SIP/2.0 404 Not Found", *kept, b"Content-Length: 0", b"", b""]))

    def _next(self) -> tuple[str, int]:
        self._device = (self._device + 1) % self._devices
        self._number += 1
        return f"{REALM}132{0}{self._device:06}", self._number

    def _head(self, method: str, code: str, number: int, cseq: int) -> str:
        to = code if method == "REGISTER" else PLATFORM
        return (
            f"{method} sip:{PLATFORM}@{REALM} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self._own};rport;branch=z9hG4bKb{number}\r\n"
            f"From: <sip:{code}@{REALM}>;tag=t{number}\r\nTo: <sip:{to}@{REALM}>\r\n"
            f"Call-ID: b{number}@{HOST}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:{code}@{self._own}>\r\nMax-Forwards: 70\r\nExpires: 3600\r\n"
        )


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _per_cpu_s(one: Round) -> float:
    return one.done / max(one.cpu_s, TICK_S)


def _summary(found: list[Round]) -> dict[str, int]:
    rates = [_per_cpu_s(one) for one in found]
    return {
        "per_cpu_s": round(statistics.median(rates)),
        "per_cpu_s_min": round(min(rates)),
        "per_cpu_s_max": round(max(rates)),
        "per_s": round(statistics.median(one.done / one.wall_s for one in found)),
    }
