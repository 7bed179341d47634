"""Sessions are told apart, joined where they belong together, and never grow past their bounds."""

from __future__ import annotations

from contextvars import copy_context

import pytest

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.trace import recorder as recording
from tongshi.gateways.signalling.trace.book import TraceBook
from tongshi.gateways.signalling.trace.recorder import Recorder
from tongshi.gateways.signalling.trace.ring import MAX_SESSION_BYTES, MAX_SESSION_PACKETS
from tongshi.protocols.pcap import End
from tongshi.protocols.sip.message import Remote
from tongshi.resources.traces.model import TraceFilter, TraceKind, TraceState

OWN, CAMERA, UPPER = "31010100002000000001", "31010100001320000001", "31000000002000000001"
NEAR, FAR = Remote("10.0.0.2", 5060, "udp"), Remote("10.0.0.9", 5060, "udp")


def said(start: str, call_id: str, *, sender: str = CAMERA, cseq: str = "1 MESSAGE", body: str = "") -> bytes:
    return (
        f"{start}\r\nFrom: <sip:{sender}@3101010000>;tag=1\r\nTo: <sip:{OWN}@3101010000>\r\n"
        f"Call-ID: {call_id}\r\n"
        f"CSeq: {cseq}\r\nContent-Type: Application/MANSCDP+xml\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def xml(root: str, command: str, sn: int = 1, extra: str = "", device: str = CAMERA) -> str:
    return f"<{root}><CmdType>{command}</CmdType><SN>{sn}</SN><DeviceID>{device}</DeviceID>{extra}</{root}>"


class Desk:
    """A recorder with a clock, used as the endpoint does."""

    def __init__(self, max_bytes: int = 8 << 20) -> None:
        self.clock = ManualClock()
        self.recorder = Recorder(OWN, self.clock, max_bytes)
        self.book = TraceBook(self.recorder, self.clock, lambda: End("10.0.0.1", 5060), lambda code: code)

    def inward(self, data: bytes, remote: Remote = NEAR) -> None:
        self.clock.advance(0.01)
        self.recorder("in", remote, data)

    def outward(self, data: bytes, remote: Remote = NEAR) -> None:
        self.clock.advance(0.01)
        self.recorder("out", remote, data)

    def only(self, **wanted: object) -> str:
        (key,) = self.book.find(TraceFilter(**wanted))  # type: ignore[arg-type]
        return key.trace_id

    def state(self, trace_id: str) -> tuple[TraceState, str]:
        detail = self.book.timeline(trace_id)
        assert detail is not None
        return detail.summary.state, detail.summary.outcome

    def meanings(self, trace_id: str) -> list[str]:
        detail = self.book.timeline(trace_id)
        assert detail is not None
        return [event.meaning for event in detail.events]


@pytest.fixture
def desk() -> Desk:
    recording._current.set(None)
    return Desk()


def test_a_registration_is_one_session_with_its_words(desk: Desk) -> None:
    request = f"REGISTER sip:{OWN}@3101010000 SIP/2.0"
    desk.inward(said(request, "r1", cseq="1 REGISTER"))
    desk.outward(said("SIP/2.0 401 Unauthorized", "r1", cseq="1 REGISTER"))
    trace = desk.only(kind=TraceKind.REGISTRATION)
    assert desk.state(trace)[0] is TraceState.RUNNING
    again = said(request, "r1", cseq="2 REGISTER").replace(
        b"CSeq", b'Authorization: Digest nonce="9"\r\nCSeq'
    )
    desk.inward(again)
    desk.outward(said("SIP/2.0 200 OK\r\nExpires: 3600", "r1", cseq="2 REGISTER"))
    assert desk.state(trace) == (TraceState.DONE, "完成")
    assert desk.meanings(trace) == [
        "注册请求", "401 要求认证", "注册请求（携带认证）", "200 注册成功，有效期 3600 秒",
    ]  # fmt: skip


def test_a_registration_an_hour_later_is_another_session(desk: Desk) -> None:
    request = said(f"REGISTER sip:{OWN}@3101010000 SIP/2.0", "r1", cseq="1 REGISTER")
    desk.inward(request)
    desk.clock.advance(3600)
    desk.inward(request)
    assert len(desk.book.find(TraceFilter(kind=TraceKind.REGISTRATION))) == 2


def test_who_stops_after_the_challenge_is_told_so(desk: Desk) -> None:
    desk.inward(said(f"REGISTER sip:{OWN}@3101010000 SIP/2.0", "r1", cseq="1 REGISTER"))
    desk.outward(said("SIP/2.0 401 Unauthorized", "r1", cseq="1 REGISTER"))
    desk.clock.advance(40)
    assert desk.state(desk.only()) == (TraceState.FAILED, "要求认证后对端没有继续")


def test_answers_to_a_question_are_in_its_timeline_whatever_their_call_id(desk: Desk) -> None:
    ask = said(f"MESSAGE sip:{CAMERA}@10.0.0.2 SIP/2.0", "q1", sender=OWN, body=xml("Query", "Catalog", 7))
    desk.outward(ask)
    desk.inward(said("SIP/2.0 200 OK", "q1"))
    for part in (1, 2):
        body = xml("Response", "Catalog", 7, f'<SumNum>2</SumNum><DeviceList Num="1"/><N>{part}</N>')
        desk.inward(
            said(f"MESSAGE sip:{OWN}@x SIP/2.0", f"a{part}", body=body), Remote("10.0.0.2", 61000, "tcp")
        )
        desk.outward(said("SIP/2.0 200 OK", f"a{part}"))
    trace = desk.only(kind=TraceKind.QUERY)
    assert desk.state(trace) == (TraceState.DONE, "完成")
    assert desk.meanings(trace)[::2] == [
        "设备目录查询", "设备目录应答（共 2 条，本消息 1 条）", "设备目录应答（共 2 条，本消息 1 条）",
    ]  # fmt: skip
    assert len(desk.book.find(TraceFilter())) == 1


def test_a_question_taken_and_never_answered_names_the_step(desk: Desk) -> None:
    ask = said(f"MESSAGE sip:{CAMERA}@10.0.0.2 SIP/2.0", "q1", sender=OWN, body=xml("Query", "RecordInfo"))
    desk.outward(ask)
    desk.inward(said("SIP/2.0 200 OK", "q1"))
    desk.clock.advance(60)
    (summary,) = desk.book.summaries(desk.book.find(TraceFilter(state=TraceState.FAILED)))
    assert (summary.outcome, summary.failed_step) == ("已接受查询，但没有返回结果", "等待查询结果")


def test_silence_is_told_from_refusal(desk: Desk) -> None:
    call = f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0"
    desk.outward(said(call, "c1", sender=OWN, cseq="1 INVITE"))
    desk.outward(said(call, "c2", sender=OWN, cseq="1 INVITE"))
    desk.inward(said("SIP/2.0 486 Busy Here", "c2", cseq="1 INVITE"))
    desk.clock.advance(60)
    outcomes = {row.outcome for row in desk.book.summaries(desk.book.find(TraceFilter()))}
    assert outcomes == {"对端没有应答", "486 忙（路数已满）"}


def test_what_a_request_brings_about_is_in_its_timeline(desk: Desk) -> None:
    def upper_calls() -> None:
        start = f"INVITE sip:{CAMERA}@10.0.0.1 SIP/2.0"
        desk.inward(said(start, "up", sender=UPPER, cseq="1 INVITE"), FAR)
        desk.outward(said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "down", sender=OWN, cseq="1 INVITE"))

    copy_context().run(upper_calls)
    desk.outward(said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "other", sender=OWN, cseq="1 INVITE"))
    first = desk.book.find(TraceFilter())[-1]
    detail = desk.book.timeline(first.trace_id)
    assert detail is not None
    assert [(event.direction, event.remote) for event in detail.events] == [
        ("in", "10.0.0.9:5060"), ("out", "10.0.0.2:5060"),
    ]  # fmt: skip


def test_a_question_after_a_registration_is_a_session_of_its_own(desk: Desk) -> None:
    def registered() -> None:
        desk.inward(said(f"REGISTER sip:{OWN}@3101010000 SIP/2.0", "r1", cseq="1 REGISTER"))
        desk.outward(
            said(f"MESSAGE sip:{CAMERA}@10.0.0.2 SIP/2.0", "q1", sender=OWN, body=xml("Query", "Catalog"))
        )

    copy_context().run(registered)
    detail = desk.book.timeline(desk.only(kind=TraceKind.QUERY))
    assert detail is not None
    assert len(detail.events) == 1


def test_the_steps_of_a_picture_stand_between_its_messages(desk: Desk) -> None:
    def watch() -> str:
        trace = desk.recorder.begin(CAMERA, "张三 调阅实时画面")
        desk.recorder.note(trace, "requested")
        desk.outward(said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "c1", sender=OWN, cseq="1 INVITE"))
        desk.clock.advance(5)
        desk.recorder.note(trace, "firstPacket", "设备已应答，但没有发送视频（50402）", is_trouble=True)
        return trace

    trace = copy_context().run(watch)
    detail = desk.book.timeline(trace)
    assert detail is not None
    assert [event.first_line[:6] for event in detail.events] == ["reques", "INVITE", "firstP"]
    summary = detail.summary
    assert (summary.state, summary.failed_step) == (TraceState.FAILED, "收到首个媒体包")
    assert summary.peer_id == CAMERA


def test_a_flood_of_heartbeats_and_registrations_takes_no_room_from_calls() -> None:
    desk = Desk(max_bytes=1 << 20)
    desk.outward(said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "c1", sender=OWN, cseq="1 INVITE"))
    for number in range(3_000):
        sender = f"3101010000132{number:07}"
        body = xml("Notify", "Keepalive", device=sender)
        desk.inward(said(f"MESSAGE sip:{OWN}@x SIP/2.0", f"k{number}", sender=sender, body=body))
        desk.inward(said(f"REGISTER sip:{OWN}@x SIP/2.0", f"r{number}", sender=sender, cseq="1 REGISTER"))
    kept = desk.book.bounds()
    assert kept.used_bytes <= kept.max_bytes
    # Nothing remembers what the rings let go of.
    assert len(desk.recorder._by_call) == kept.sessions
    assert kept.dropped > 4_000
    assert desk.only(kind=TraceKind.CALL)


def test_an_answer_to_what_had_to_make_room_hurts_nobody() -> None:
    desk = Desk(max_bytes=1 << 18)
    asked = [f"3101010000132{number:07}" for number in range(1_000)]
    for number, sender in enumerate(asked):
        desk.inward(said(f"REGISTER sip:{OWN}@x SIP/2.0", f"r{number}", sender=sender, cseq="1 REGISTER"))
    for number, sender in enumerate(asked):
        desk.outward(said("SIP/2.0 200 OK", f"r{number}", sender=sender, cseq="1 REGISTER"))
    for ring in desk.recorder.rings.values():
        assert ring.used_bytes == sum(session.size for session in ring.sessions())


def test_one_device_keeps_a_bounded_number_of_sessions(desk: Desk) -> None:
    for number in range(300):
        body = xml("Notify", "Alarm", number)
        desk.inward(said(f"MESSAGE sip:{OWN}@x SIP/2.0", f"n{number}", body=body))
    assert len(desk.book.find(TraceFilter(device_id=CAMERA))) == 60


def test_a_long_session_keeps_how_it_began_and_how_it_goes_on(desk: Desk) -> None:
    call = said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "c1", sender=OWN, cseq="1 INVITE")
    desk.outward(call)
    for number in range(1_000):
        desk.outward(said(f"INFO sip:{CAMERA}@x SIP/2.0", "c1", cseq=f"{number} INFO", body="x" * 4_000))
    detail = desk.book.timeline(desk.only())
    assert detail is not None
    assert len(detail.events) <= MAX_SESSION_PACKETS
    assert sum(len(event.text) for event in detail.events) <= MAX_SESSION_BYTES
    assert (detail.summary.omitted, detail.events[0].first_line[:6]) == (1_001 - len(detail.events), "INVITE")
    assert "CSeq: 999 INFO" in detail.events[-1].text


def test_the_ring_counts_what_it_holds(desk: Desk) -> None:
    for number in range(500):
        desk.outward(said(f"INFO sip:{CAMERA}@x SIP/2.0", f"c{number % 7}", body="x" * 4_000))
    for ring in desk.recorder.rings.values():
        assert ring.used_bytes == sum(session.size for session in ring.sessions())


def test_answers_in_thousands_of_parts_do_not_pile_up_keys(desk: Desk) -> None:
    ask = said(f"MESSAGE sip:{CAMERA}@10.0.0.2 SIP/2.0", "q1", sender=OWN, body=xml("Query", "Catalog", 7))
    desk.outward(ask)
    for part in range(2_000):
        body = xml("Response", "Catalog", 7, "<SumNum>2000</SumNum>")
        desk.inward(said(f"MESSAGE sip:{OWN}@x SIP/2.0", f"a{part}", body=body))
        desk.outward(said("SIP/2.0 200 OK", f"a{part}"))
    assert len(desk.recorder._by_call) == 64
    detail = desk.book.timeline(desk.only())
    assert detail is not None
    assert (detail.summary.messages, detail.summary.omitted) == (200, 3801)


@pytest.mark.parametrize("noise", [b"", b"\r\n", b"\0" * 500, b"SIP/2.0 200 OK\r\nCall-ID: nobody\r\n\r\n"])
def test_noise_and_answers_to_nothing_are_not_kept(desk: Desk, noise: bytes) -> None:
    desk.inward(noise)
    assert desk.book.find(TraceFilter()) == []


def test_a_number_of_another_run_finds_nothing(desk: Desk) -> None:
    desk.outward(said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "c1", sender=OWN, cseq="1 INVITE"))
    other = Desk().recorder
    for wrong in ("", "x", "g" * 16, desk.only()):
        assert other.find(wrong) is None


def test_repeated_bytes_are_told_as_repeated(desk: Desk) -> None:
    call = said(f"INVITE sip:{CAMERA}@10.0.0.2 SIP/2.0", "c1", sender=OWN, cseq="1 INVITE")
    desk.outward(call)
    desk.outward(call)
    assert desk.meanings(desk.only())[1].startswith("重发：")
