"""The endpoint over real loopback sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tongshi.errors import PeerFailed, PeerTimeout, Unavailable
from tongshi.gateways.signalling.endpoint import (
    IncomingCall,
    IncomingInvite,
    IncomingRequest,
    Remote,
    SipEndpoint,
)
from tongshi.protocols.sip.message import parse
from tongshi.protocols.sip.timers import TimerValues

PLATFORM = "34020000002000000001"
CAMERA = "34020000001320000001"
QUICK = TimerValues(t1_s=0.05, t2_s=0.2, t4_s=0.1)
OFFER = b"v=0\r\no=34020000002000000001 0 0 IN IP4 127.0.0.1\r\ns=Play\r\n"
ANSWER = b"v=0\r\no=34020000001320000001 0 0 IN IP4 127.0.0.1\r\ns=Play\r\n"

RequestHandler = Callable[[IncomingRequest], Awaitable[None]]
InviteHandler = Callable[[IncomingInvite], Awaitable[None]]


async def ok(incoming: IncomingRequest) -> None:
    incoming.respond(200)


async def decline(invite: IncomingInvite) -> None:
    invite.reject(486)


@asynccontextmanager
async def endpoint(
    local_id: str,
    on_request: RequestHandler = ok,
    on_invite: InviteHandler = decline,
    *,
    max_pending: int = 10_000,
    max_connections: int = 64,
    idle_timeout_s: float = 60.0,
    allow_tcp: bool = True,
) -> AsyncIterator[SipEndpoint]:
    made = SipEndpoint(
        local_id=local_id,
        host="127.0.0.1",
        port=0,
        on_request=on_request,
        on_invite=on_invite,
        timers=QUICK,
        max_pending=max_pending,
        max_connections=max_connections,
        idle_timeout_s=idle_timeout_s,
        allow_tcp=allow_tcp,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def at(peer: SipEndpoint, transport: str = "udp") -> Remote:
    return Remote("127.0.0.1", peer.port, "tcp" if transport == "tcp" else "udp")


async def until(condition: Callable[[], bool], limit_s: float = 3.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - bounded, and there is no event to wait for
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_message_reaches_the_peer_and_its_answer_comes_back(transport: str) -> None:
    seen: list[IncomingRequest] = []

    async def answer(incoming: IncomingRequest) -> None:
        seen.append(incoming)
        incoming.respond(
            200, headers=(("X-Test", "1"),), body=b"<a/>", content_type="Application/MANSCDP+xml"
        )

    async with endpoint(CAMERA, answer) as camera, endpoint(PLATFORM) as platform:
        response = await platform.request(
            "MESSAGE", to_id=CAMERA, remote=at(camera, transport), body="通视".encode("gb18030"),
            content_type="Application/MANSCDP+xml",
        )  # fmt: skip
    assert (response.status, response.headers.get("X-Test"), response.body) == (200, "1", b"<a/>")
    request = seen[0].request
    assert request.uri_text == f"sip:{CAMERA}@127.0.0.1:{camera.port}"
    assert str(request.to) == f"<sip:{CAMERA}@3402000000>"
    assert request.from_.uri.user == PLATFORM
    assert request.body.decode("gb18030") == "通视"
    assert seen[0].remote.transport == transport


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_is_answered_carries_info_and_ends_for_both(transport: str) -> None:
    calls: list[IncomingCall] = []
    infos: list[IncomingRequest] = []

    async def accept(invite: IncomingInvite) -> None:
        assert invite.offer == OFFER
        calls.append(await invite.accept(ANSWER))

    async def control(incoming: IncomingRequest) -> None:
        infos.append(incoming)
        incoming.respond(200)

    async with endpoint(CAMERA, control, accept) as camera, endpoint(PLATFORM) as platform:
        call = await platform.invite(to_id=CAMERA, remote=at(camera, transport), sdp=OFFER, subject="a:1,b:1")
        assert call.answer == ANSWER
        await until(lambda: bool(calls))
        assert calls[0].request.headers.get("Subject") == "a:1,b:1"
        assert (await call.info(b"PAUSE", "Application/MANSRTSP")).status == 200
        assert infos[0].call is calls[0]
        ended: list[int] = []
        calls[0].on_bye = lambda: ended.append(1)
        await call.bye()
        await call.bye()
        await asyncio.wait_for(calls[0].ended.wait(), 15)
        assert ended == [1]
        with pytest.raises(Unavailable):
            await call.info(b"PLAY", "Application/MANSRTSP")


async def test_the_called_side_can_hang_up() -> None:
    async def accept(invite: IncomingInvite) -> None:
        call = await invite.accept(ANSWER)
        await call.bye()

    async with endpoint(CAMERA, on_invite=accept) as camera, endpoint(PLATFORM) as platform:
        call = await platform.invite(to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="")
        await asyncio.wait_for(call.ended.wait(), 15)
        late: list[int] = []
        call.on_bye = lambda: late.append(1)
        assert late == [1]


async def test_a_refusal_names_status_and_reason() -> None:
    async def refuse(invite: IncomingInvite) -> None:
        invite.reject(488, "No Such Codec")

    async with endpoint(CAMERA, on_invite=refuse) as camera, endpoint(PLATFORM) as platform:
        with pytest.raises(PeerFailed) as caught:
            await platform.invite(to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="")
    assert caught.value.details == {"sipStatus": 488, "reason": "No Such Codec"}


async def test_a_caller_who_gives_up_cancels() -> None:
    cancelled = asyncio.Event()

    async def hesitate(invite: IncomingInvite) -> None:
        invite.trying()
        await invite.cancelled.wait()
        cancelled.set()
        with pytest.raises(Unavailable):
            await invite.accept(ANSWER)

    async with endpoint(CAMERA, on_invite=hesitate) as camera, endpoint(PLATFORM) as platform:
        with pytest.raises(PeerTimeout) as caught:
            await platform.invite(
                to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="", answer_timeout_s=0.2
            )
        assert caught.value.code == 50401
        await asyncio.wait_for(cancelled.wait(), 15)


async def test_an_answer_that_comes_too_late_is_acknowledged_and_ended() -> None:
    over = asyncio.Event()

    async def slow(invite: IncomingInvite) -> None:
        # No provisional answer before the caller's patience ends: the 200 ms of the automatic 100 are longer.
        await asyncio.sleep(0.15)
        call = await invite.accept(ANSWER)
        await call.ended.wait()
        over.set()

    async with endpoint(CAMERA, on_invite=slow) as camera, endpoint(PLATFORM) as platform:
        with pytest.raises(PeerTimeout):
            await platform.invite(
                to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="", answer_timeout_s=0.05
            )
        await asyncio.wait_for(over.wait(), 15)


async def test_a_silent_peer_is_a_timeout_and_no_call_remains() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        remote = Remote("127.0.0.1", silent.getsockname()[1], "udp")
        async with endpoint(PLATFORM) as platform:
            with pytest.raises(PeerTimeout):
                await platform.request("MESSAGE", to_id=CAMERA, remote=remote, timeout_s=0.2)
            with pytest.raises(PeerTimeout):
                await platform.invite(
                    to_id=CAMERA, remote=remote, sdp=OFFER, subject="", answer_timeout_s=0.2
                )
            await until(lambda: platform.pending == 0, 5)


async def test_a_closed_tcp_port_is_unavailable_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    async with endpoint(PLATFORM) as platform:
        with pytest.raises(Unavailable):
            await platform.request("MESSAGE", to_id=CAMERA, remote=Remote("127.0.0.1", port, "tcp"))


async def test_bye_to_a_peer_that_vanished_is_bounded() -> None:
    async def accept(invite: IncomingInvite) -> None:
        await invite.accept(ANSWER)

    async with endpoint(PLATFORM) as platform:
        async with endpoint(CAMERA, on_invite=accept) as camera:
            call = await platform.invite(to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="")
            camera._loop.agent = None  # from here on the camera hears nothing
            await asyncio.wait_for(call.bye(timeout_s=0.2), 15)
        assert call.ended.is_set()


async def test_a_handler_that_forgets_or_fails_answers_500() -> None:
    async def forget(incoming: IncomingRequest) -> None:
        if incoming.request.body == b"fail":
            raise RuntimeError("broken on purpose")

    async with endpoint(CAMERA, forget) as camera, endpoint(PLATFORM) as platform:
        for body in (b"", b"fail"):
            response = await platform.request("MESSAGE", to_id=CAMERA, remote=at(camera), body=body)
            assert response.status == 500


async def test_an_answer_that_would_break_the_message_becomes_500() -> None:
    async def break_request(incoming: IncomingRequest) -> None:
        incoming.respond(403, "no\r\nVia: forged")

    async def break_invite(invite: IncomingInvite) -> None:
        await invite.accept(ANSWER, headers=(("X-A", "a\r\nVia: forged"),))

    async with endpoint(CAMERA, break_request, break_invite) as camera, endpoint(PLATFORM) as platform:
        response = await platform.request("MESSAGE", to_id=CAMERA, remote=at(camera))
        assert response.status == 500
        with pytest.raises(PeerFailed) as caught:
            await platform.invite(to_id=CAMERA, remote=at(camera), sdp=OFFER, subject="")
        assert caught.value.details["sipStatus"] == 500


async def test_options_unknown_methods_and_unknown_dialogs_need_no_handler() -> None:
    async with endpoint(CAMERA) as camera, endpoint(PLATFORM) as platform:
        options = await platform.request("OPTIONS", to_id=CAMERA, remote=at(camera))
        assert options.status == 200
        allowed = set(options.headers.get("Allow").split(", "))
        assert {"INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"} <= allowed
        assert (await platform.request("PUBLISH", to_id=CAMERA, remote=at(camera))).status == 405
        for method in ("BYE", "INFO"):
            response = await platform.request(method, to_id=CAMERA, remote=at(camera), to_tag="nobody")
            assert response.status == 481


async def test_responses_go_to_the_true_source_whatever_via_says() -> None:
    async with endpoint(CAMERA) as camera:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.setblocking(False)
            device.bind(("127.0.0.1", 0))
            port = device.getsockname()[1]
            request = (
                f"OPTIONS sip:{CAMERA}@3402000000 SIP/2.0\r\n"
                "Via: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bKa\r\n"
                f"From: <sip:{PLATFORM}@3402000000>;tag=1\r\nTo: <sip:{CAMERA}@3402000000>\r\nCall-ID: a\r\n"
                "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            )
            loop = asyncio.get_running_loop()
            device.sendto(b"\r\n\r\n", ("127.0.0.1", camera.port))
            device.sendto(b"\x00\xff garbage", ("127.0.0.1", camera.port))
            device.sendto(request.encode(), ("127.0.0.1", camera.port))
            data = await asyncio.wait_for(loop.sock_recv(device, 4096), 15)
            via = parse(data).via
            assert via.params[-2:] == (("received", "127.0.0.1"), ("rport", str(port)))
            # A repeated request gets the same bytes again, from the transaction.
            device.sendto(request.encode(), ("127.0.0.1", camera.port))
            assert await asyncio.wait_for(loop.sock_recv(device, 4096), 15) == data


async def test_glued_and_split_messages_and_line_ends_share_one_connection() -> None:
    def message(number: int) -> bytes:
        return (
            f"OPTIONS sip:{CAMERA}@3402000000 SIP/2.0\r\n"
            f"Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK{number}\r\n"
            f"From: <sip:{PLATFORM}@3402000000>;tag=1\r\nTo: <sip:{CAMERA}@3402000000>\r\n"
            f"Call-ID: {number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    async with endpoint(CAMERA) as camera:
        reader, writer = await asyncio.open_connection("127.0.0.1", camera.port)
        writer.write(message(1) + b"\r\n\r\n" + message(2))
        for byte in message(3):
            writer.write(bytes([byte]))
            await writer.drain()
        for number in (1, 2, 3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
            response = parse(head)
            assert response.call_id == str(number)
        writer.write(b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n")
        assert await asyncio.wait_for(reader.read(100), 15) == b""
        writer.close()


async def test_a_large_message_takes_the_connection_its_receiver_holds_open() -> None:
    transports: list[str] = []

    async def note(incoming: IncomingRequest) -> None:
        transports.append(incoming.remote.transport)
        incoming.respond(200)

    async with endpoint(CAMERA, note) as camera, endpoint(PLATFORM) as platform:
        remote, held = at(camera), at(platform, "tcp")
        await camera.request("MESSAGE", to_id=PLATFORM, remote=held)
        await platform.request("MESSAGE", to_id=CAMERA, remote=remote, body=b"x" * 100)
        await platform.request("MESSAGE", to_id=CAMERA, remote=remote, body=b"x" * 2000)
        assert platform._sockets.connection_count == 1
    assert transports == ["udp", "tcp"]


async def test_who_speaks_udp_alone_opens_no_connection_for_a_large_request() -> None:
    transports: list[str] = []

    async def note(incoming: IncomingRequest) -> None:
        transports.append(incoming.remote.transport)
        incoming.respond(200)

    async with endpoint(CAMERA, note) as camera, endpoint(PLATFORM, allow_tcp=False) as platform:
        await platform.request("MESSAGE", to_id=CAMERA, remote=at(camera), body=b"x" * 2000)
    assert transports == ["udp"]


@pytest.mark.parametrize("listens", [True, False])
async def test_a_large_request_goes_by_tcp_where_its_receiver_listens_for_it(listens: bool) -> None:
    transports: list[str] = []

    async def note(incoming: IncomingRequest) -> None:
        transports.append(incoming.remote.transport)
        incoming.respond(200)

    async def accept(invite: IncomingInvite) -> None:
        transports.append(invite.remote.transport)
        await (await invite.accept(ANSWER)).bye()

    async with endpoint(CAMERA, note, accept, allow_tcp=listens) as camera, endpoint(PLATFORM) as platform:
        remote = at(camera)
        await platform.request("MESSAGE", to_id=CAMERA, remote=remote, body=b"x" * 100)
        await platform.request("MESSAGE", to_id=CAMERA, remote=remote, body=b"x" * 2000)
        await platform.request("MESSAGE", to_id=CAMERA, remote=remote, body=b"x" * 2000)
        call = await platform.invite(to_id=CAMERA, remote=remote, sdp=OFFER + b"a=x\r\n" * 300, subject="")
        await asyncio.wait_for(call.ended.wait(), 15)
        assert platform._sockets.connection_count == int(listens)
        if not listens:
            # A refusal is remembered, and what no datagram holds is not sent at all.
            assert not await platform._loop.reach(at(camera, "tcp"))
            with pytest.raises(Unavailable):
                await platform.request("MESSAGE", to_id=PLATFORM, remote=remote, body=b"x" * 70_000)
    assert transports == ["udp", *(["tcp"] if listens else ["udp"]) * 3]


async def test_beyond_the_bound_requests_get_503_and_work_goes_on() -> None:
    gate = asyncio.Event()

    async def wait(incoming: IncomingRequest) -> None:
        await gate.wait()
        incoming.respond(200)

    async with endpoint(CAMERA, wait, max_pending=2) as camera, endpoint(PLATFORM) as platform:
        asked = [
            asyncio.create_task(platform.request("MESSAGE", to_id=CAMERA, remote=at(camera)))
            for _ in range(5)
        ]
        await until(lambda: sum(task.done() for task in asked) == 3)
        gate.set()
        statuses = sorted([(await task).status for task in asked])
    assert statuses == [200, 200, 503, 503, 503]


async def test_connections_are_bounded() -> None:
    async with endpoint(CAMERA, max_connections=2) as camera:
        opened = [await asyncio.open_connection("127.0.0.1", camera.port) for _ in range(3)]
        assert await asyncio.wait_for(opened[2][0].read(1), 15) == b""
        assert camera._loop._sockets.connection_count == 2
        for _, writer in opened:
            writer.close()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with endpoint(CAMERA, idle_timeout_s=0.1) as camera:
        reader, writer = await asyncio.open_connection("127.0.0.1", camera.port)
        assert await asyncio.wait_for(reader.read(1), 15) == b""
        writer.close()


async def test_stop_leaves_no_task_and_no_descriptor() -> None:
    async def linger(invite: IncomingInvite) -> None:
        await invite.cancelled.wait()

    tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    async with endpoint(CAMERA, on_invite=linger) as camera, endpoint(PLATFORM) as platform:
        call = asyncio.create_task(
            platform.invite(to_id=CAMERA, remote=at(camera, "tcp"), sdp=OFFER, subject="")
        )
        await until(lambda: bool(camera._calls._invites))
        await platform.stop()
        with pytest.raises(Unavailable):
            await call
    await until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)
    assert len(asyncio.all_tasks()) == tasks


async def test_a_cancelled_request_leaves_nothing_pending() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with endpoint(PLATFORM) as platform:
            remote = Remote("127.0.0.1", silent.getsockname()[1], "udp")
            asked = asyncio.create_task(platform.request("MESSAGE", to_id=CAMERA, remote=remote))
            await until(lambda: platform.pending == 1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert platform.pending == 0
