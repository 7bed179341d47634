"""``tongshi bench sip --storm``: thousands of devices register together, then stay alive.

One socket plays them all. Each registers by digest, is asked for its catalogue and tells its one item, and
then sends a heartbeat at a real interval; what is not answered is sent again as a device does. At the end the
platform must hold them all and must not have taken one for gone.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from hashlib import md5
from heapq import heappop, heappush

from tongshi.bench.sip_platform import HOST, PLATFORM, REALM, SECRET, Running, cpu_s

INTERVAL_S = 60.0
RESEND_S = (0.5, 1.5, 3.5, 7.5)  # after the first: T1 doubled (RFC 3261 17.1.2.2)
GIVE_UP_S = 16.0
BATCH = 1_000  # datagrams read at once
RETRY_S = 60.0  # after a registration that nobody answered (9.1.1 c)


@dataclass(slots=True)
class _Waiting:
    """A request that was not answered yet."""

    data: bytes
    sent_at: float
    device: int
    turn: int = 0


class Storm:
    """Devices ``REALM 132 0 000000`` and on, behind one socket."""

    def __init__(
        self, platform: Running, devices: int, within_s: float, interval_s: float = INTERVAL_S
    ) -> None:
        self._platform = platform
        self._devices = devices
        self._gap_s = within_s / devices
        self._interval_s = interval_s
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.bind((HOST, 0))
        self._socket.connect((HOST, platform.port))
        self._socket.setblocking(False)
        self._own = f"{HOST}:{self._socket.getsockname()[1]}"
        self._number = 0
        self._waiting: dict[str, _Waiting] = {}
        self._due: list[tuple[float, str]] = []
        self._retries: list[tuple[float, int]] = []
        self._beats: deque[tuple[float, int]] = deque()
        self._registered: set[int] = set()
        self._delays_ms: list[float] = []
        self.resent = self.given_up = self.refused = self.beats = self.answered = self.catalogues = 0

    def run(self, beat_minutes: float) -> dict[str, object]:
        """Everything: the storm, the calm after it, the figures."""
        cpu_began, began = cpu_s(self._platform.pid), time.perf_counter()
        registered_s = self._register_all(began)
        cpu_storm = cpu_s(self._platform.pid) - cpu_began
        calm = self._platform.figures()
        cpu_began, end = cpu_s(self._platform.pid), time.perf_counter() + beat_minutes * 60
        while time.perf_counter() < end:
            self._beat_due()
            self._turn(0.02)
        settle = time.perf_counter() + GIVE_UP_S
        while self._waiting and time.perf_counter() < settle:
            self._turn(0.02)
        figures = self._platform.figures()
        self._socket.close()
        delays = sorted(self._delays_ms) or [0.0]
        return {
            "devices": self._devices,
            "registered": len(self._registered),
            "registered_in_s": round(registered_s, 1),
            "goal_s": 60,
            "platform_cpu_s": round(cpu_storm, 1),
            "beat_minutes": beat_minutes,
            "interval_s": self._interval_s,
            "heartbeats": self.beats,
            "heartbeats_answered": self.answered,
            "answer_ms_p50": round(delays[len(delays) // 2], 1),
            "answer_ms_p99": round(delays[int(len(delays) * 0.99)], 1),
            "heartbeats_cpu_share": round(
                (cpu_s(self._platform.pid) - cpu_began) / max(1.0, beat_minutes * 60), 3
            ),
            "sent_again": self.resent,
            "given_up": self.given_up,
            "refused_for_a_while": self.refused,
            "catalogues_complete_after_storm": calm["complete"],
            "catalogues_complete": figures["complete"],
            "online_at_the_end": figures["peers"],
            "false_offline": figures["removed"],
            "memory_mib": figures["memory_mib"],
        }

    def _register_all(self, began: float) -> float:
        """One after another at an even pace. Returns when the last was registered."""
        started, last = 0, began
        while len(self._registered) < self._devices and time.perf_counter() - began < 300:
            now = time.perf_counter()
            while started < self._devices and began + started * self._gap_s <= now:
                self._register(started)
                started += 1
            while self._retries and self._retries[0][0] <= now:
                self._register(heappop(self._retries)[1])
            before = len(self._registered)
            self._beat_due()
            self._turn(0.005)
            if len(self._registered) > before:
                last = time.perf_counter()
        return last - began

    def _beat_due(self) -> None:
        now = time.perf_counter()
        while self._beats and self._beats[0][0] <= now:
            due, device = self._beats.popleft()
            self._beats.append((due + self._interval_s, device))
            self.beats += 1
            self._keepalive(device)

    def _turn(self, wait_s: float) -> None:
        """Read what came, send again what is overdue."""
        if select.select((self._socket,), (), (), wait_s)[0]:
            for _ in range(BATCH):
                try:
                    self._take(self._socket.recv(65_536))
                except BlockingIOError:
                    break
        now = time.perf_counter()
        while self._due and self._due[0][0] <= now:
            self._again(heappop(self._due)[1], now)

    def _again(self, key: str, now: float) -> None:
        """Send what was not answered again, or give it up."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        if waiting.turn == len(RESEND_S):
            del self._waiting[key]
            self.given_up += 1
            if waiting.data.startswith(b"REGISTER"):
                heappush(self._retries, (now + RETRY_S, waiting.device))
            return
        waiting.turn += 1
        due = RESEND_S[waiting.turn] if waiting.turn < len(RESEND_S) else GIVE_UP_S
        heappush(self._due, (waiting.sent_at + due, key))
        self.resent += 1
        self._socket.send(waiting.data)

    def _take(self, data: bytes) -> None:
        head = data.partition(b"\r\n\r\n")[0].decode("latin-1")
        if head.startswith("MESSAGE"):
            self._asked(head, data)
            return
        key = _field(head, "Call-ID") + _field(head, "CSeq")
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return
        now = time.perf_counter()
        if head.startswith("SIP/2.0 401"):
            self._authorize(head)
        elif head.startswith("SIP/2.0 200"):
            self._done(head, now, waiting)
        elif waiting.data.startswith(b"REGISTER"):
            self.refused += 1
            wait_s = float(_field(head, "Retry-After") or RETRY_S)
            heappush(self._retries, (now + wait_s, waiting.device))

    def _done(self, head: str, now: float, waiting: _Waiting) -> None:
        if "REGISTER" in _field(head, "CSeq"):
            device = int(_user(head)[14:])
            if device not in self._registered:
                self._registered.add(device)
                self._beats.append((now + self._interval_s, device))
        elif waiting.data.startswith(b"MESSAGE") and b"Keepalive" in waiting.data:
            self.answered += 1
            self._delays_ms.append((now - waiting.sent_at) * 1000)

    def _asked(self, head: str, data: bytes) -> None:
        """200 to a question; a catalogue question is answered with the one item."""
        kept = "".join(
            f"{line}\r\n"
            for line in head.split("\r\n")[1:]
            if line.split(":")[0].lower() in ("via", "from", "to", "call-id", "cseq")
        )
        self._socket.send(f"SIP/2.0 200 OK\r\n{kept}Content-Length: 0\r\n\r\n".encode("latin-1"))
        if b"<CmdType>Catalog<" not in data:
            return
        sn = data.partition(b"<SN>")[2].partition(b"<")[0].decode()
        code = data.partition(b"<DeviceID>")[2].partition(b"<")[0].decode()
        self.catalogues += 1
        body = (
            '<?xml version="1.0" encoding="GB18030"?>\r\n<Response><CmdType>Catalog</CmdType>'
            f'<SN>{sn}</SN><DeviceID>{code}</DeviceID><SumNum>1</SumNum><DeviceList Num="1"><Item>'
            f"<DeviceID>{code}</DeviceID><Name>Cam {code[14:]}</Name><Manufacturer>Sim</Manufacturer>"
            "<Model>S</Model><CivilCode>310101</CivilCode><Address>Road</Address><Parental>0</Parental>"
            "<RegisterWay>1</RegisterWay><Secrecy>0</Secrecy><Status>ON</Status></Item></DeviceList></Response>\r\n"
        )
        self._message(code, body)

    def _keepalive(self, device: int) -> None:
        code = _code(device)
        body = (
            '<?xml version="1.0" encoding="GB18030"?>\r\n<Notify><CmdType>Keepalive</CmdType>'
            f"<SN>{self._number % 1_000_000 + 1}</SN><DeviceID>{code}</DeviceID>"
            "<Status>OK</Status></Notify>\r\n"
        )
        self._message(code, body)

    def _message(self, code: str, body: str) -> None:
        head = self._head("MESSAGE", code, PLATFORM, 1)
        kind = "Content-Type: Application/MANSCDP+xml"
        self._send(f"{head}{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}", "1 MESSAGE", int(code[14:]))

    def _register(self, device: int) -> None:
        code = _code(device)
        self._send(f"{self._head('REGISTER', code, code, 1)}Content-Length: 0\r\n\r\n", "1 REGISTER", device)

    def _authorize(self, head: str) -> None:
        nonce, code = head.partition('nonce="')[2].partition('"')[0], _user(head)
        uri = f"sip:{PLATFORM}@{REALM}"
        secret = _md5(f"{code}:{REALM}:{SECRET}")
        response = _md5(f"{secret}:{nonce}:{_md5(f'REGISTER:{uri}')}")
        self._send(
            f'{self._head("REGISTER", code, code, 2)}Authorization: Digest username="{code}", '
            f'realm="{REALM}", nonce="{nonce}", uri="{uri}", response="{response}", algorithm=MD5\r\n'
            "Content-Length: 0\r\n\r\n",
            "2 REGISTER",
            int(code[14:]),
        )

    def _send(self, text: str, cseq: str, device: int) -> None:
        data, now, key = text.encode(), time.perf_counter(), f"s{self._number}@{HOST}{cseq}"
        self._waiting[key] = _Waiting(data, now, device)
        heappush(self._due, (now + RESEND_S[0], key))
        self._socket.send(data)

    def _head(self, method: str, code: str, to: str, cseq: int) -> str:
        self._number += 1
        number = self._number
        return (
            f"{method} sip:{PLATFORM}@{REALM} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self._own};rport;branch=z9hG4bKs{number}\r\n"
            f"From: <sip:{code}@{REALM}>;tag=t{number}\r\nTo: <sip:{to}@{REALM}>\r\n"
            f"Call-ID: s{number}@{HOST}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:{code}@{self._own}>\r\nMax-Forwards: 70\r\nExpires: 86400\r\n"
        )


def _code(device: int) -> str:
    return f"{REALM}1320{device:06d}"


def _user(head: str) -> str:
    return head.partition("From: <sip:")[2].partition("@")[0]


def _field(head: str, name: str) -> str:
    return head.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
