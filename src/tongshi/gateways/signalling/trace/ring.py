"""Sessions in memory, the longest silent forgotten first: one ring a kind, so that a flood of one kind (a
registration storm, the heartbeats of twenty thousand devices) takes no room from another.

Bounds: bytes of a ring, sessions of one device in a ring, packets and bytes of one session. A session that
grows past its own bound keeps how it began and how it goes on, and counts what it lost in between.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tongshi.protocols.sip.message import Remote
from tongshi.resources.traces.model import TraceKind

MAX_PACKET_BYTES: Final = 16 * 1024
MAX_SESSION_BYTES: Final = 256 * 1024
MAX_SESSION_PACKETS: Final = 200
MAX_LINKS: Final = 32
_HEAD_PACKETS: Final = 40
_HEAD_BYTES: Final = 64 * 1024
# What a packet and a session cost beside their bytes; measured with tracemalloc.
_PACKET_BYTES: Final = 200
_SESSION_BYTES: Final = 900


@dataclass(slots=True)
class Note:
    """A step of a picture, or what went wrong, in words."""

    now: float
    step: str
    text: str
    is_trouble: bool = False


# Monotonic time, whether we sent it, the other end, the bytes kept, the length on the wire.
Packet = tuple[float, bool, Remote, bytes, int]
Entry = Packet | Note


class Session:
    """One session: a call, a registration, a question with its answers, or a viewing."""

    __slots__ = (
        "device_id", "entries", "is_kept", "keys", "kind", "links", "now", "number", "omitted", "peer_id",
        "question", "remote", "size", "tail", "title", "touched",
    )  # fmt: skip

    def __init__(
        self, number: int, kind: TraceKind, now: float, device_id: str, peer_id: str, remote: Remote | None
    ) -> None:
        self.number = number
        self.kind = kind
        self.now = self.touched = now
        self.device_id = device_id
        self.peer_id = peer_id
        self.remote = remote
        self.title = ""
        # What is seldom needed is made when it is: heartbeats are many.
        self.links: tuple[int, ...] = ()
        self.entries: list[Entry] = []
        self.tail: deque[Entry] | None = None
        self.keys: list[bytes] = []  # its Call-IDs
        self.question: object = None
        self.is_kept = True
        self.size = _SESSION_BYTES
        self.omitted = 0

    def add(self, entry: Entry, now: float) -> int:
        """Keep an entry; how many bytes the session grew, negative when it let go of more."""
        before, self.touched = self.size, now
        self.size += _size(entry)
        if self.tail is None:
            if len(self.entries) < _HEAD_PACKETS and self.size < _HEAD_BYTES:
                self.entries.append(entry)
                return self.size - before
            self.tail = deque()
        self.tail.append(entry)
        most = MAX_SESSION_PACKETS - _HEAD_PACKETS
        while len(self.tail) > 1 and (len(self.tail) > most or self.size > MAX_SESSION_BYTES):
            self.size -= _size(self.tail.popleft())
            self.omitted += 1
        return self.size - before

    def all(self) -> list[Entry]:
        """What is kept, in order."""
        return self.entries if self.tail is None else [*self.entries, *self.tail]


class Ring:
    """Sessions of one kind of traffic."""

    def __init__(
        self, max_bytes: int, max_of_device: int, on_drop: Callable[[Session], None] = lambda _: None
    ) -> None:
        self._on_drop = on_drop
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.dropped = 0
        self._max_of_device = max_of_device
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._of_device: dict[str, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, number: int) -> Session | None:
        return self._sessions.get(number)

    def sessions(self) -> tuple[Session, ...]:
        """All, the longest silent first."""
        return tuple(self._sessions.values())

    def latest_of(self, device_id: str) -> Session | None:
        """The one that began last of a device or peer."""
        numbers = self._of_device.get(device_id)
        return self._sessions.get(numbers[-1]) if numbers else None

    def oldest(self) -> Session | None:
        return next(iter(self._sessions.values()), None)

    def put(self, session: Session) -> None:
        """Begin a session; the oldest of the same device makes room when it has too many."""
        self._sessions[session.number] = session
        self.used_bytes += session.size
        numbers = self._of_device.setdefault(session.device_id or session.peer_id, deque())
        numbers.append(session.number)
        if len(numbers) > self._max_of_device:
            self._drop(numbers[0])
        self._shrink()

    def add(self, session: Session, entry: Entry, now: float) -> None:
        """Keep an entry of a session that is here; one that had to make room gets no more of them."""
        if session.number not in self._sessions:
            return
        self.used_bytes += session.add(entry, now)
        self._sessions.move_to_end(session.number)
        if self.used_bytes > self.max_bytes:
            self._shrink()

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes and len(self._sessions) > 1:
            self._drop(next(iter(self._sessions)))

    def _drop(self, number: int) -> None:
        session = self._sessions.pop(number)
        session.is_kept = False
        self.used_bytes -= session.size
        self.dropped += 1
        self._on_drop(session)
        key = session.device_id or session.peer_id
        numbers = self._of_device[key]
        numbers.remove(number)
        if not numbers:
            del self._of_device[key]


def _size(entry: Entry) -> int:
    if isinstance(entry, Note):
        return _PACKET_BYTES + 2 * len(entry.text)
    return _PACKET_BYTES + len(entry[3])
