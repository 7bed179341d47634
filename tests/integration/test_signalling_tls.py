"""SIP over TLS on loopback: who is believed and who is not, with the reason; and a cascade that speaks it."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from tongshi.clock import ManualClock
from tongshi.errors import InvalidRequest, Unavailable
from tongshi.gateways.signalling import tls_listener, transport
from tongshi.gateways.signalling.endpoint import IncomingInvite, IncomingRequest, Remote, SipEndpoint
from tongshi.gateways.signalling.tls import Tls, TlsPlan, Trust
from tongshi.protocols import pcap
from tongshi.protocols.sip.timers import TimerValues
from tongshi.resources.platforms.model import Relation
from tongshi.resources.traces.model import TraceFilter, TraceKind, TraceState
from tongshi.testing.authority import Authority
from tongshi.testing.small_platform import Neighbour, PlatformPlan

HOST = "127.0.0.1"
PLATFORM, CAMERA = "34020000002000000001", "34020000001320000001"
CITY, DISTRICT, SECRET = "31000000002000000001", "31010100002000000001", "cascade-secret"
QUICK = TimerValues(t1_s=0.05, t2_s=0.2, t4_s=0.1)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

Neighbourhood = Any  # the class lives in conftest, which cannot be imported


@dataclass(frozen=True)
class Wallet:
    """Certificates of this module's servers."""

    authority: Authority
    stranger: Authority
    good: tuple[str, str]
    expired: tuple[str, str]
    elsewhere: tuple[str, str]
    foreign: tuple[str, str]


@pytest.fixture(scope="module")
def wallet(tmp_path_factory: pytest.TempPathFactory) -> Wallet:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder, "ca").make(), Authority(folder, "stranger").make()
    return Wallet(
        authority,
        stranger,
        authority.sign("good"),
        authority.sign("expired", days=-1),
        authority.sign("elsewhere", "DNS:sip.example.org,IP:192.0.2.9"),
        stranger.sign("foreign"),
    )


def listening(pair: tuple[str, str], client_ca: str = "") -> Tls:
    return Tls(TlsPlan(certificate=pair[0], key=pair[1], port=0, client_ca=client_ca))


def fingerprint(path: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(path).read_text())).hexdigest()


@asynccontextmanager
async def endpoint(local_id: str, tls: Tls | None, seen: list[IncomingRequest]) -> AsyncIterator[SipEndpoint]:
    async def take(incoming: IncomingRequest) -> None:
        seen.append(incoming)
        incoming.respond(200)

    async def accept(invite: IncomingInvite) -> None:
        await invite.accept(b"v=0\r\n")

    made = SipEndpoint(
        local_id=local_id, host=HOST, port=0, on_request=take, on_invite=accept, timers=QUICK, tls=tls
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def dialling(port: int, trust: Trust, **more: Any) -> Tls:
    return Tls(TlsPlan(trusts={(HOST, port): trust}, **more))


async def until(condition: Any, limit_s: float = 3.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - bounded, and there is no event to wait for
            await asyncio.sleep(0.005)


async def test_a_message_and_its_answer_and_a_call_back_share_one_connection(wallet: Wallet) -> None:
    below: list[IncomingRequest] = []
    above: list[IncomingRequest] = []
    async with endpoint(PLATFORM, listening(wallet.good), above) as server:
        at = Remote(HOST, server.tls_port, "tls")
        tls = dialling(server.tls_port, Trust(ca=wallet.authority.ca))
        async with endpoint(CAMERA, tls, below) as client:
            answer = await client.request("MESSAGE", to_id=PLATFORM, remote=at, body=b"x" * 70_000)
            assert answer.status == 200
            request, back = above[0].request, above[0].remote
            assert (request.via.transport, back.transport) == ("TLS", "tls")
            assert len(request.body) == 70_000
            assert (await server.request("MESSAGE", to_id=CAMERA, remote=back)).status == 200
            assert below[0].remote == at
            call = await server.invite(to_id=CAMERA, remote=back, sdp=b"v=0\r\n", subject="")
            contact = call.response.contact
            assert contact is not None
            assert contact.uri.param("transport") == "tls"
            await call.bye()
            assert server._sockets.connection_count == client._sockets.connection_count == 1


@pytest.mark.parametrize(
    ("shown", "trust", "reason"),
    [
        ("expired", Trust(ca="ca"), "证书已过期"),
        ("elsewhere", Trust(ca="ca"), "证书中的地址与对端地址不符"),
        ("elsewhere", Trust(ca="ca", name="sip.example.com"), "证书中的名称与对端地址不符"),
        ("foreign", Trust(ca="ca"), "CA 不受信任"),
        ("good", Trust(fingerprint="ab" * 32), "证书指纹不符"),
        ("good", Trust(ca="ca", fingerprint="ab" * 32), "证书指纹不符"),
        ("good", Trust(), "没有配置校验该服务器证书的 CA 或指纹"),
    ],
)
async def test_a_server_that_proves_nothing_gets_no_byte_and_the_reason_is_told(
    wallet: Wallet, shown: str, trust: Trust, reason: str
) -> None:
    seen: list[IncomingRequest] = []
    trust = replace(trust, ca=wallet.authority.ca if trust.ca else "")
    async with endpoint(PLATFORM, listening(getattr(wallet, shown)), seen) as server:
        at = Remote(HOST, server.tls_port, "tls")
        async with endpoint(CAMERA, dialling(server.tls_port, trust), []) as client:
            with pytest.raises(Unavailable, match=reason):
                await client.request("MESSAGE", to_id=PLATFORM, remote=at)
    assert not seen


@pytest.mark.parametrize(
    ("shown", "trust"),
    [
        ("elsewhere", Trust(ca="ca", name="sip.example.org")),
        ("foreign", Trust(fingerprint="foreign")),
        ("expired", Trust(is_insecure=True)),
    ],
)
async def test_a_server_is_believed_by_its_name_its_fingerprint_or_because_somebody_wrote_so(
    wallet: Wallet, shown: str, trust: Trust
) -> None:
    seen: list[IncomingRequest] = []
    if trust.fingerprint:
        trust = Trust(fingerprint=f"SHA256:{fingerprint(wallet.foreign[0]).upper()}")
    trust = replace(trust, ca=wallet.authority.ca if trust.ca else "")
    async with endpoint(PLATFORM, listening(getattr(wallet, shown)), seen) as server:
        at = Remote(HOST, server.tls_port, "tls")
        async with endpoint(CAMERA, dialling(server.tls_port, trust), []) as client:
            assert (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status == 200


async def test_the_ca_of_the_platform_proves_servers_without_a_word_of_their_own(wallet: Wallet) -> None:
    async with endpoint(PLATFORM, listening(wallet.good), []) as server:
        at = Remote(HOST, server.tls_port, "tls")
        async with endpoint(CAMERA, Tls(TlsPlan(peer_ca=wallet.authority.ca)), []) as client:
            assert (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status == 200
        async with endpoint(CAMERA, Tls(TlsPlan(peer_ca=wallet.stranger.ca)), []) as client:
            with pytest.raises(Unavailable, match="CA 不受信任"):
                await client.request("MESSAGE", to_id=PLATFORM, remote=at)


async def test_where_client_certificates_are_asked_for_one_without_is_refused_with_the_reason(
    wallet: Wallet,
) -> None:
    seen: list[IncomingRequest] = []
    ca = wallet.authority.ca
    async with endpoint(PLATFORM, listening(wallet.good, client_ca=ca), seen) as server:
        at = Remote(HOST, server.tls_port, "tls")
        ours = {"certificate": wallet.good[0], "key": wallet.good[1]}
        async with endpoint(CAMERA, dialling(server.tls_port, Trust(ca=ca), **ours), []) as client:
            assert (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status == 200
        theirs = {"certificate": wallet.foreign[0], "key": wallet.foreign[1]}
        for more, reason in (({}, "要求客户端证书"), (theirs, "不信任我方证书")):
            async with endpoint(CAMERA, dialling(server.tls_port, Trust(ca=ca), **more), []) as client:
                with pytest.raises(Unavailable, match=reason):
                    await client.request("MESSAGE", to_id=PLATFORM, remote=at)
    assert len(seen) == 1


async def test_a_withdrawn_certificate_is_refused_from_the_moment_its_list_is_there(wallet: Wallet) -> None:
    authority, clock = wallet.authority, ManualClock()
    crl = authority.revoke()
    certificate, key = wallet.good
    plan = TlsPlan(certificate=certificate, key=key, port=0, client_ca=authority.ca, crl=crl)
    shown = {"certificate": wallet.elsewhere[0], "key": wallet.elsewhere[1]}
    async with endpoint(PLATFORM, Tls(plan, clock), []) as server:
        at = Remote(HOST, server.tls_port, "tls")

        async def ask() -> int:
            tls = dialling(server.tls_port, Trust(ca=authority.ca), **shown)
            async with endpoint(CAMERA, tls, []) as client:
                return (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status

        async def refused() -> list[object]:
            """Why the server refused; what the client hears of it differs with who is faster."""
            with capture_logs() as said:
                with pytest.raises(Unavailable):
                    await ask()
                await until(lambda: any(line["event"] == "sip_tls_refused" for line in said))
            return [line["reason"] for line in said if line["event"] == "sip_tls_refused"]

        assert await ask() == 200
        authority.revoke(wallet.elsewhere[0])
        clock.advance(2)
        assert "TLS 握手失败：证书已被吊销" in await refused()
        authority.revoke(is_list=False)
        clock.advance(2)
        assert "TLS 握手失败：证书已被吊销" in await refused()  # by the last good list
        authority.revoke()
        clock.advance(2)
        assert await ask() == 200


async def test_a_renewed_certificate_is_shown_to_who_dials_next_and_a_broken_one_is_not(
    wallet: Wallet, tmp_path: Path
) -> None:
    shown, clock = (str(tmp_path / "own.pem"), str(tmp_path / "own.key")), ManualClock()

    def renew(pair: tuple[str, str]) -> None:
        for source, target in zip(pair, shown, strict=True):
            shutil.copyfile(source, target)
        clock.advance(2)

    renew(wallet.good)
    plan = TlsPlan(certificate=shown[0], key=shown[1], port=0)
    async with endpoint(PLATFORM, Tls(plan, clock), []) as server:
        at = Remote(HOST, server.tls_port, "tls")

        async def ask(certificate: str) -> int:
            tls = dialling(server.tls_port, Trust(fingerprint=fingerprint(certificate)))
            async with endpoint(CAMERA, tls, []) as client:
                return (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status

        assert await ask(wallet.good[0]) == 200
        with capture_logs() as said:
            renew((wallet.elsewhere[0], wallet.good[1]))
            assert [await ask(wallet.good[0]) for _ in range(2)] == [200, 200]
        assert [line["event"] for line in said if "certificate" in line] == ["tls_certificate_refused"]
        renew(wallet.elsewhere)
        assert await ask(wallet.elsewhere[0]) == 200
        with pytest.raises(Unavailable, match="证书指纹不符"):
            await ask(wallet.good[0])


async def test_a_server_is_not_dialled_when_withdrawn_and_a_stale_list_is_said_aloud(wallet: Wallet) -> None:
    authority = wallet.authority
    async with endpoint(PLATFORM, listening(wallet.good), []) as server:
        at = Remote(HOST, server.tls_port, "tls")
        cases = (
            ((wallet.good[0],), False, "证书已被吊销"),
            ((), True, "吊销列表已过期"),
        )
        for withdrawn, is_over, reason in cases:
            with capture_logs() as said:
                tls = Tls(TlsPlan(peer_ca=authority.ca, crl=authority.revoke(*withdrawn, is_over=is_over)))
            assert [line["event"] for line in said] == (["sip_tls_crl_expired"] if is_over else [])
            async with endpoint(CAMERA, tls, []) as client:
                with pytest.raises(Unavailable, match=reason):
                    await client.request("MESSAGE", to_id=PLATFORM, remote=at)
        tls = Tls(TlsPlan(peer_ca=authority.ca, crl=wallet.stranger.revoke()))
        async with endpoint(CAMERA, tls, []) as client:
            with pytest.raises(Unavailable, match="没有该签发者的列表"):
                await client.request("MESSAGE", to_id=PLATFORM, remote=at)


def test_a_file_without_a_list_is_told_at_the_start(wallet: Wallet) -> None:
    for path in ("/nonexistent.crl", wallet.authority.ca):
        with pytest.raises(InvalidRequest, match="吊销列表文件"):
            Tls(TlsPlan(crl=path))


async def test_a_server_that_speaks_no_tls_is_named_so(wallet: Wallet) -> None:
    async with endpoint(PLATFORM, None, []) as server:
        tls = dialling(server.port, Trust(ca=wallet.authority.ca))
        async with endpoint(CAMERA, tls, []) as client:
            with pytest.raises(Unavailable, match="可能不使用 TLS"):
                await client.request("MESSAGE", to_id=PLATFORM, remote=Remote(HOST, server.port, "tls"))


async def test_handshakes_that_never_end_are_few_and_end(
    wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 0.4)
    async with endpoint(PLATFORM, listening(wallet.good), []) as server:
        lines = [await asyncio.open_connection(HOST, server.tls_port) for _ in range(4)]
        await until(lambda: server._sockets._hosts[HOST] == 3)
        assert await asyncio.wait_for(lines[3][0].read(), 1.0) == b""  # at once: there is no room
        assert server._sockets.connection_count == 0
        for reader, _ in lines[:3]:
            assert await asyncio.wait_for(reader.read(), 15) == b""
        await until(lambda: not +server._sockets._hosts)
        for _, writer in lines:
            writer.close()


async def test_what_is_no_sip_or_too_old_loses_its_connection(wallet: Wallet) -> None:
    async with endpoint(PLATFORM, listening(wallet.good), []) as server:
        trusting = ssl.create_default_context(cafile=wallet.authority.ca)
        reader, writer = await asyncio.open_connection(HOST, server.tls_port, ssl=trusting)
        writer.write(b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 15)
        writer.close()
        old = ssl.create_default_context(cafile=wallet.authority.ca)
        with pytest.deprecated_call():
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection(HOST, server.tls_port, ssl=old)


def test_the_same_holds_on_the_loop_that_a_platform_runs_on(wallet: Wallet) -> None:
    """uvloop has a TLS of its own."""
    ca = wallet.authority.ca

    async def run() -> None:
        seen: list[IncomingRequest] = []
        async with endpoint(PLATFORM, listening(wallet.good, client_ca=ca), seen) as server:
            at = Remote(HOST, server.tls_port, "tls")
            ours = {"certificate": wallet.good[0], "key": wallet.good[1]}
            async with endpoint(CAMERA, dialling(server.tls_port, Trust(ca=ca), **ours), []) as client:
                assert (await client.request("MESSAGE", to_id=PLATFORM, remote=at)).status == 200
                assert (await server.request("MESSAGE", to_id=CAMERA, remote=seen[0].remote)).status == 200
            async with endpoint(CAMERA, dialling(server.tls_port, Trust(ca=ca)), []) as client:
                with pytest.raises(Unavailable, match="要求客户端证书"):
                    await client.request("MESSAGE", to_id=PLATFORM, remote=at)
            distrusting = dialling(server.tls_port, Trust(ca=wallet.stranger.ca))
            async with endpoint(CAMERA, distrusting, []) as client:
                with pytest.raises(Unavailable, match="不受信任"):
                    await client.request("MESSAGE", to_id=PLATFORM, remote=at)
        assert len(seen) == 1

    uvloop.run(run())


def test_files_that_do_not_fit_keep_the_platform_from_starting(wallet: Wallet) -> None:
    for pair in ((wallet.good[0], wallet.foreign[1]), (wallet.good[0], "nowhere.key"), ("", "")):
        with pytest.raises(InvalidRequest):
            listening(pair)
    with pytest.raises(InvalidRequest, match="CA 文件"):
        dialling(5061, Trust(ca=wallet.good[1]))


async def test_a_district_registers_over_tls_and_is_asked_and_traced_over_it(
    neighbourhood: Neighbourhood, wallet: Wallet
) -> None:
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    listener = TlsPlan(certificate=wallet.good[0], key=wallet.good[1], port=0)
    city = await neighbourhood.platform(PlatformPlan(CITY, neighbours=(below,), tls=listener))
    port = city.gateway.endpoint.tls_port
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=port, sip_transport="tls")
    trusting = TlsPlan(trusts={(HOST, port): Trust(ca=wallet.authority.ca)})
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,), tls=trusting))
    await neighbourhood.until(lambda: DISTRICT in city.gateway.peers)
    peer = city.gateway.peers.get(DISTRICT)
    assert peer is not None
    assert peer.remote.transport == "tls"
    assert not peer.is_at(Remote(HOST, peer.remote.port, "udp"))  # a datagram with its address proves nothing
    info = await city.gateway.device_info(DISTRICT)
    assert info.device_id == DISTRICT
    assert city.gateway.profiles.of(DISTRICT).transport == "tls"
    assert district.gateway.profiles.uppers()[0].transport == "tls"
    (key,) = city.gateway.traces.find(TraceFilter(kind=TraceKind.REGISTRATION))
    found = city.gateway.traces.timeline(key.trace_id)
    assert found is not None
    assert {event.transport for event in found.events} == {"tls"}
    packets = city.gateway.traces.capture(key.trace_id)
    assert packets is not None
    assert {packet.transport for _, packet in packets} == {"tcp"}
    assert b"REGISTER sip:" in pcap.render(packet for _, packet in packets)
    stored = await city.gateway._record.stored(city.clock.at())
    assert [row.transport for row in stored] == ["tls"]


async def test_a_district_that_cannot_believe_its_city_says_why_everywhere(
    neighbourhood: Neighbourhood, wallet: Wallet
) -> None:
    listener = TlsPlan(certificate=wallet.expired[0], key=wallet.expired[1], port=0)
    below = Neighbour(DISTRICT, Relation.LOWER, SECRET)
    city = await neighbourhood.platform(PlatformPlan(CITY, neighbours=(below,), tls=listener))
    port = city.gateway.endpoint.tls_port
    above = Neighbour(CITY, Relation.UPPER, SECRET, port=port, sip_transport="tls")
    trusting = TlsPlan(trusts={(HOST, port): Trust(ca=wallet.authority.ca)})
    district = await neighbourhood.platform(PlatformPlan(DISTRICT, neighbours=(above,), tls=trusting))
    await neighbourhood.until(lambda: "证书已过期" in district.gateway.profiles.uppers()[0].reason)
    assert DISTRICT not in city.gateway.peers
    (key, *_) = district.gateway.traces.find(TraceFilter(kind=TraceKind.REGISTRATION))
    found = district.gateway.traces.timeline(key.trace_id)
    assert found is not None
    assert found.summary.state is TraceState.FAILED
    assert "证书已过期" in found.summary.outcome
    assert found.summary.failed_step == "建立信令连接"


def test_the_port_of_tls_is_free_again_after_the_end(wallet: Wallet) -> None:
    async def run() -> int:
        async with endpoint(PLATFORM, listening(wallet.good), []) as server:
            return server.tls_port

    port = asyncio.run(run())
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
