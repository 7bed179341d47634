"""How a session stands, from start lines and CSeq alone: lists look at thousands of sessions.

Waits are those of our own timers: a request without final answer for longer than Timer B or F has failed,
whatever its sender still hopes for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tongshi.gateways.signalling.trace.ring import Note, Packet, Session
from tongshi.gateways.signalling.trace.words import meaning, parsed
from tongshi.resources.traces.model import TraceKind, TraceState

SILENCE_S: Final = 32.0
RESULT_S: Final = 30.0  # a peer that took a question answers it within

_STATUS = re.compile(rb"SIP/2\.0 +([1-6][0-9]{2})")
_CSEQ = re.compile(rb"\nCSeq[ \t]*:[ \t]*([0-9]{1,10})[ \t]+([A-Z]{3,16})", re.IGNORECASE)
_SUBSCRIPTION_OVER = re.compile(
    rb"\nExpires[ \t]*:[ \t]*0\s|\nSubscription-State[ \t]*:[ \t]*terminated", re.I
)
_CHALLENGES = frozenset((401, 407))


@dataclass(frozen=True, slots=True)
class Standing:
    """State, how it ended in words, and which step was waited for when it failed."""

    state: TraceState
    outcome: str = ""
    failed_step: str = ""


@dataclass(slots=True)
class _Seen:
    """What of a session decides."""

    method: str = ""  # of the request that began it
    asked_by_us: bool = False
    status: int = 0  # last final answer to that method
    answer: Packet | None = None
    methods: frozenset[str] = frozenset()
    has_result: bool = False
    is_over: bool = False


def standing(session: Session, now: float) -> Standing:
    """Judge a session."""
    if session.kind is TraceKind.VIEWING:
        return _viewing(session)
    last = (session.tail or session.entries or (None,))[-1]
    if isinstance(last, Note) and last.is_trouble:
        return Standing(TraceState.FAILED, last.text, last.step)
    seen = _look(session)
    idle_s = now - session.touched
    if not seen.status:
        if "CANCEL" in seen.methods:
            return Standing(TraceState.FAILED, "呼叫已取消", "等待应答")
        if idle_s < SILENCE_S:
            return Standing(TraceState.RUNNING, "等待应答")
        who = "对端" if seen.asked_by_us else "本平台"
        return Standing(TraceState.FAILED, f"{who}没有应答", "等待应答")
    if seen.status in _CHALLENGES:
        if idle_s < SILENCE_S:
            return Standing(TraceState.RUNNING, "等待携带认证的请求")
        return Standing(TraceState.FAILED, "要求认证后对端没有继续", "认证")
    if seen.status >= 300:
        said = meaning(parsed(seen.answer[3])) if seen.answer else str(seen.status)
        return Standing(TraceState.FAILED, said, "等待应答")
    return _accepted(session.kind, seen, idle_s)


def is_unaccepted(session: Session) -> bool:
    """Did we begin this, and nobody has accepted it?"""
    seen = _look(session)
    return seen.asked_by_us and not 200 <= seen.status < 300


def _accepted(kind: TraceKind, seen: _Seen, idle_s: float) -> Standing:
    if kind is TraceKind.CALL:
        if "BYE" in seen.methods:
            return Standing(TraceState.DONE, "已挂断")
        return Standing(TraceState.RUNNING, "通话中")
    if kind is TraceKind.SUBSCRIPTION:
        return (
            Standing(TraceState.DONE, "订阅已结束")
            if seen.is_over
            else Standing(TraceState.RUNNING, "订阅有效")
        )
    if kind is TraceKind.QUERY and not seen.has_result:
        if idle_s < RESULT_S:
            return Standing(TraceState.RUNNING, "等待查询结果")
        return Standing(TraceState.FAILED, "已接受查询，但没有返回结果", "等待查询结果")
    return Standing(TraceState.DONE, "完成")


def _viewing(session: Session) -> Standing:
    state, outcome, step = TraceState.RUNNING, "进行中", ""
    for entry in session.all():
        if isinstance(entry, Note):
            if entry.is_trouble:
                return Standing(TraceState.FAILED, entry.text, entry.step)
            if entry.step == "ended":
                state, outcome = TraceState.DONE, entry.text
    return Standing(state, outcome, step)


def _look(session: Session) -> _Seen:
    seen, methods = _Seen(), set()
    for entry in session.all():
        if isinstance(entry, Note):
            continue
        data = entry[3]
        match = _STATUS.match(data)
        if match is None:
            method = data[: data.find(b" ", 0, 20)].decode("latin-1")
            methods.add(method)
            if not seen.method:
                seen.method, seen.asked_by_us = method, entry[1]
            elif method == "MESSAGE" and entry[1] != seen.asked_by_us:
                seen.has_result = True
            elif method == seen.method:
                seen.status, seen.answer = 0, None
            if method in ("SUBSCRIBE", "NOTIFY") and _SUBSCRIPTION_OVER.search(data):
                seen.is_over = True
            continue
        status, cseq = int(match[1]), _CSEQ.search(data)
        if (
            status >= 200
            and cseq is not None
            and cseq[2].decode().upper() == seen.method
            and entry[1] != seen.asked_by_us
        ):
            seen.status, seen.answer = status, entry
    seen.methods = frozenset(methods)
    return seen
