"""The endpoint's trace hook: every message goes to its session, at the cost of finding its Call-ID.

What takes time (parsing, words, blotting out secrets) is done when somebody looks. A session is what shares a
Call-ID; beside that

* an answer to a MANSCDP question (a MESSAGE of its own) belongs to the question, by address, command and SN;
* what we send because of something (the call to a camera for the call of an upper platform, the command that
  is relayed) is linked to it: the handler of a request runs in a context that knows its session, and so does
  every task begun in it;
* the steps of a picture are notes in the session of whoever asked first.

"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Final

from tongshi.clock import Clock
from tongshi.gateways.signalling.trace.outcome import is_unaccepted
from tongshi.gateways.signalling.trace.ring import (
    MAX_LINKS,
    MAX_PACKET_BYTES,
    Note,
    Ring,
    Session,
)
from tongshi.protocols.sip.message import Remote
from tongshi.resources.traces.model import TraceKind

DEFAULT_BYTES: Final = 32 * 1024 * 1024
MAX_KEYS_OF_SESSION: Final = 64
# A device that registers anew each hour keeps its Call-ID; each time is a session of its own.
REGISTRATION_GAP_S: Final = 60.0
QUESTION_LIFE_S: Final = 600.0

# Share of the memory and sessions of one device, by kind.
_SHARES: Final[dict[TraceKind, tuple[float, int]]] = {
    TraceKind.VIEWING: (0.15, 100),
    TraceKind.CALL: (0.25, 100),
    TraceKind.SUBSCRIPTION: (0.1, 20),
    TraceKind.QUERY: (0.2, 60),
    TraceKind.CONTROL: (0.1, 60),
    TraceKind.NOTIFICATION: (0.07, 60),
    TraceKind.REGISTRATION: (0.07, 20),
    TraceKind.HEARTBEAT: (0.04, 2),
    TraceKind.OTHER: (0.02, 10),
}
_METHODS: Final = {
    b"INVITE": TraceKind.CALL,
    b"REGISTER": TraceKind.REGISTRATION,
    b"SUBSCRIBE": TraceKind.SUBSCRIPTION,
}
_ROOTS: Final = {b"query": TraceKind.QUERY, b"control": TraceKind.CONTROL}
# What these bring about is a session of its own, like the catalogue that is asked for after a registration.
_BARREN: Final = frozenset((TraceKind.REGISTRATION, TraceKind.HEARTBEAT))

_CALL_ID = re.compile(rb"\n(?:Call-ID|i)[ \t]*:[ \t]*([^\r\n]{1,512})", re.IGNORECASE)
_FROM = re.compile(rb"\n(?:From|f)[ \t]*:[^\r\n]{0,256}?sips?:([^@;>\s]{1,64})@", re.IGNORECASE)
_TARGET = re.compile(rb"[A-Z]{3,16} +sips?:([^@;>\s]{1,64})@")
_ROOT = re.compile(rb"<(Query|Control|Response|Notify)\b", re.IGNORECASE)
_COMMAND = re.compile(rb"<CmdType>\s*([A-Za-z]{1,40})", re.IGNORECASE)
_SN = re.compile(rb"<SN>\s*([0-9]{1,10})", re.IGNORECASE)
_DEVICE = re.compile(rb"<DeviceID>\s*([^<\s]{1,64})", re.IGNORECASE)

_current: ContextVar[Session | None] = ContextVar("signalling_session", default=None)


class Recorder:
    """Keeps sessions; ``__call__`` is the endpoint's trace hook.

    Args:
        own_id: our code, which names no peer and no device.
        max_bytes: of all rings together; 0 keeps nothing.
    """

    def __init__(self, own_id: str, clock: Clock, max_bytes: int = DEFAULT_BYTES) -> None:
        self.own_id = own_id
        self.max_bytes = max_bytes
        self.rings = {
            kind: Ring(int(max_bytes * share), of_device, self._forget)
            for kind, (share, of_device) in _SHARES.items()
        }
        # Tells numbers of this run from those of the run before.
        self._run = secrets.token_hex(4)
        self._clock = clock
        self._numbers = 0
        # Both go with their sessions.
        self._by_call: dict[bytes, Session] = {}
        self._questions: dict[object, Session] = {}

    # The hook.

    def __call__(self, direction: str, remote: Remote, data: bytes) -> None:
        call_id = _call_id(data)
        session = self._by_call.get(call_id)
        is_request = not data.startswith(b"SIP/2.0")
        now = self._clock.now()
        if session is None or (is_request and self._is_stale(session, now)):
            if not is_request or not call_id:
                return  # an answer to what was not kept, or noise
            session = self._begin(direction, remote, data, call_id, now)
        kept = data if len(data) <= MAX_PACKET_BYTES else data[:MAX_PACKET_BYTES]
        self.rings[session.kind].add(session, (now, direction == "out", remote, kept, len(data)), now)
        if is_request and direction == "in":
            _current.set(session)

    def _is_stale(self, session: Session, now: float) -> bool:
        return session.kind is TraceKind.REGISTRATION and now - session.touched > REGISTRATION_GAP_S

    def _begin(self, direction: str, remote: Remote, data: bytes, call_id: bytes, now: float) -> Session:
        session = self._answered(remote, data, now) or self._new(direction, remote, data, now)
        self._by_call[call_id] = session
        if len(session.keys) < MAX_KEYS_OF_SESSION:
            session.keys.append(call_id)
        else:
            # A catalogue in thousands of parts: each answer was said and answered long before the last one.
            self._by_call.pop(session.keys[0], None)
            session.keys = [*session.keys[1:], call_id]
        return session

    def _forget(self, session: Session) -> None:
        """A ring let go of it."""
        for key in session.keys:
            if self._by_call.get(key) is session:
                del self._by_call[key]
        if self._questions.get(session.question) is session:
            del self._questions[session.question]

    def _new(self, direction: str, remote: Remote, data: bytes, now: float) -> Session:
        kind = _kind(data)
        sender, target = _first(_FROM, data), _first(_TARGET, data)
        peer_id = sender if direction == "in" else target
        # What is asked of us or of a peer about a device names it in the body, a call in its target.
        device_id = _first(_DEVICE, data) if kind not in (TraceKind.CALL, TraceKind.REGISTRATION) else target
        if device_id in ("", self.own_id):
            device_id = peer_id
        session = self.open(kind, device_id, peer_id, remote, now)
        if kind in (TraceKind.QUERY, TraceKind.CONTROL):
            self._remember(remote, data, session)
        if direction == "out":
            cause = _current.get()
            if cause is not None and cause.kind not in _BARREN and kind not in _BARREN:
                link(cause, session)
        return session

    def _answered(self, remote: Remote, data: bytes, now: float) -> Session | None:
        """The question that this answers."""
        if not data.startswith(b"MESSAGE") or _first(_ROOT, data).lower() != "response":
            return None
        session = self._questions.get(_question(remote, data))
        if session is None or now - session.touched > QUESTION_LIFE_S:
            return None
        return session

    def _remember(self, remote: Remote, data: bytes, session: Session) -> None:
        key = _question(remote, data)
        session.question = key
        self._questions[key] = session

    # What others add (viewing.ports.Timeline).

    def begin(self, device_id: str, title: str) -> str:
        """Begin the timeline of a viewing; what this task and its tasks cause is linked to it."""
        session = self.open(TraceKind.VIEWING, device_id, "", None, self._clock.now())
        session.title = title
        _current.set(session)
        return self.name(session)

    def current(self) -> str:
        """The timeline that this task belongs to, "" for none."""
        session = _current.get()
        return "" if session is None else self.name(session)

    def note(self, trace_id: str, step: str, text: str = "", *, is_trouble: bool = False) -> None:
        """Note a step; nothing happens when the timeline is no longer kept."""
        session = self.find(trace_id)
        if session is not None:
            now = self._clock.now()
            self.rings[session.kind].add(session, Note(now, step, text, is_trouble), now)

    def registration_failed(self, server_id: str, reason: str) -> None:
        """Say why our last registration there got no answer, when no message can tell it."""
        ring = self.rings[TraceKind.REGISTRATION]
        session = ring.latest_of(server_id)
        if session is not None:
            now = self._clock.now()
            ring.add(session, Note(now, "connecting", reason, is_trouble=True), now)

    def subscription_refused(self, device_id: str, reason: str, again_s: float) -> None:
        """Say why our last subscription there is not held, and when the next try is."""
        ring = self.rings[TraceKind.SUBSCRIPTION]
        session = ring.latest_of(device_id)
        if session is not None and is_unaccepted(session):
            now = self._clock.now()
            text = f"{reason}；{again_s:g} 秒后再次订阅"
            ring.add(session, Note(now, "subscribing", text, is_trouble=True), now)

    def link(self, one: str, other: str) -> None:
        """Two timelines that belong together."""
        first, second = self.find(one), self.find(other)
        if first is not None and second is not None and first is not second:
            link(first, second)

    # For those who look.

    def open(
        self, kind: TraceKind, device_id: str, peer_id: str, remote: Remote | None, now: float
    ) -> Session:
        """Begin a session."""
        self._numbers += 1
        session = Session(self._numbers, kind, now, device_id, peer_id, remote)
        self.rings[kind].put(session)
        return session

    def name(self, session: Session) -> str:
        """The number of a session for people."""
        return f"{self._run}{session.number:08x}"

    def find(self, trace_id: str) -> Session | None:
        """A session by that number, while it is kept."""
        if len(trace_id) < 16 or not trace_id.startswith(self._run):
            return None
        try:
            return self.by_number(int(trace_id[8:], 16))
        except ValueError:
            return None

    def by_number(self, number: int) -> Session | None:
        """A session by our own count."""
        return next((found for ring in self.rings.values() if (found := ring.get(number))), None)

    def family(self, session: Session) -> list[Session]:
        """The session and all that hang on it, in order of beginning; at most ``MAX_LINKS``."""
        found, waiting = {session.number: session}, [session]
        while waiting and len(found) < MAX_LINKS:
            for number in sorted(waiting.pop(0).links):
                other = self.by_number(number)
                if other is not None and number not in found and len(found) < MAX_LINKS:
                    found[number] = other
                    waiting.append(other)
        return sorted(found.values(), key=lambda one: one.number)


def link(one: Session, other: Session) -> None:
    """Link two sessions, unless one has as many links as it may."""
    if len(one.links) < MAX_LINKS and len(other.links) < MAX_LINKS:
        one.links = (*one.links, other.number)
        other.links = (*other.links, one.number)


def _call_id(data: bytes) -> bytes:
    """The usual spelling first: it saves a search in every message of a well-behaved peer."""
    at = data.find(b"\nCall-ID: ", 0, 4096)
    if at >= 0:
        end = data.find(b"\n", at + 10, at + 560)
        if end > 0:
            return data[at + 10 : end].rstrip()
    match = _CALL_ID.search(data, 0, 65_536)
    return match[1].rstrip() if match else b""


def _kind(data: bytes) -> TraceKind:
    method = data[: data.find(b" ", 0, 20)]
    if method != b"MESSAGE":
        return _METHODS.get(method, TraceKind.OTHER)
    if b"<CmdType>Keepalive" in data:
        return TraceKind.HEARTBEAT
    return _ROOTS.get(_first(_ROOT, data).lower().encode(), TraceKind.NOTIFICATION)


def _question(remote: Remote, data: bytes) -> tuple[str, bytes, bytes]:
    """By host alone: a device answers from another port, or over another transport."""
    command, number = _COMMAND.search(data), _SN.search(data)
    return remote.host, command[1].lower() if command else b"", number[1] if number else b""


def _first(pattern: re.Pattern[bytes], data: bytes) -> str:
    match = pattern.search(data, 0, 16_384)
    return match[1].decode("ascii", "replace") if match else ""
