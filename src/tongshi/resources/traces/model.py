"""Timelines of signalling sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal


class TraceKind(StrEnum):
    """What a session was about."""

    VIEWING = "viewing"  # somebody asked for a picture; its calls hang on it
    CALL = "call"
    SUBSCRIPTION = "subscription"
    QUERY = "query"
    CONTROL = "control"
    NOTIFICATION = "notification"
    REGISTRATION = "registration"
    HEARTBEAT = "heartbeat"
    OTHER = "other"


class TraceState(StrEnum):
    """How it stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TraceKey:
    """What says whether somebody may see a session."""

    trace_id: str
    device_id: str
    peer_id: str

    @property
    def concerns(self) -> str:
        """The device, or the peer when there is none."""
        return self.device_id or self.peer_id


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One session in a list.

    Attributes:
        device_id: the device it concerns, "" when it concerns a peer only.
        peer_id: who was at the other end; for a picture the peer that led to the device.
        title, outcome: what it was and how it ended, in words.
        failed_step: the step that was waited for when it failed, in words; "" otherwise.
        messages: on the wire, repetitions among them. omitted: those no longer kept.
    """

    trace_id: str
    kind: TraceKind
    state: TraceState
    device_id: str
    peer_id: str
    begun_at: datetime
    last_at: datetime
    title: str
    outcome: str
    failed_step: str
    messages: int
    omitted: int


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One message, or one step of a picture.

    Attributes:
        direction: as seen from this platform; "" for a step.
        gap_ms: since the event before.
        text: the whole message with secrets blotted out, as far as it was kept; "" for a step.
        size: length on the wire. is_cut: less than that was kept.
        is_repeated: the same bytes went the same way before.
    """

    at: datetime
    gap_ms: float
    direction: Literal["in", "out", ""]
    peer_id: str
    remote: str
    transport: str
    first_line: str
    meaning: str
    device_id: str = ""
    text: str = ""
    size: int = 0
    is_cut: bool = False
    is_repeated: bool = False
    is_trouble: bool = False


@dataclass(frozen=True, slots=True)
class TraceDetail:
    """A timeline: the session with those that it brought about."""

    summary: TraceSummary
    events: tuple[TraceEvent, ...]


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Which sessions; empty fields do not narrow."""

    device_id: str = ""
    peer_id: str = ""
    kind: TraceKind | None = None
    state: TraceState | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TraceBounds:
    """How much is kept, for people to know what they cannot find."""

    is_on: bool = True
    used_bytes: int = 0
    max_bytes: int = 0
    sessions: int = 0
    oldest_at: datetime | None = None
    dropped: int = field(default=0)
