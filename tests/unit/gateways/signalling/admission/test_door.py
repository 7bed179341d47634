"""What is read at all, and what is answered without being kept."""

from __future__ import annotations

from tongshi.clock import ManualClock
from tongshi.gateways.signalling.admission.bans import MAX_FAILURES, Bans
from tongshi.gateways.signalling.admission.door import Door, Limits
from tongshi.gateways.signalling.admission.strangers import Strangers
from tongshi.protocols.sip.message import Remote, Request, parse
from tongshi.resources.admission.model import BanReason

HOME, ABROAD = Remote("192.0.2.7", 5060, "udp"), Remote("198.51.100.9", 5060, "udp")
DEVICE, OTHER = "31010100001320000001", "31010100001320000002"


def request(method: str, code: str = OTHER, to_tag: str = "") -> Request:
    lines = [
        f"{method} sip:31010100002000000001@3101010000 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa",
        f"From: <sip:{code}@3101010000>;tag=1",
        f"To: <sip:31010100002000000001@3101010000>{';tag=' + to_tag if to_tag else ''}",
        "Call-ID: a",
        f"CSeq: 1 {method}",
    ]
    made = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(made, Request)
    return made


class Hall:
    """A door with one device at home."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        self.strangers = Strangers(self.clock)
        self.bans = Bans()
        self.door = Door(
            limits or Limits(burst=5, rate_per_s=1, flood=10, stranger_connections=2),
            self.bans,
            self.strangers,
            self.clock,
            is_home=lambda host: host == HOME.host,
            lives_at=lambda code, remote: code == DEVICE and remote.host == HOME.host,
        )


def test_a_stranger_is_refused_without_state_and_an_ack_not_answered() -> None:
    hall = Hall()
    for method in ("MESSAGE", "INVITE", "SUBSCRIBE", "NOTIFY", "INFO", "BYE"):
        assert hall.door.screen(request(method), ABROAD) == (403, ())
        assert hall.door.screen(request(method, to_tag="x"), ABROAD) == (403, ())
    assert hall.door.screen(request("ACK"), ABROAD) == (0, ())
    assert hall.strangers.total == 13
    assert hall.strangers.latest()[0].code == OTHER


def test_who_is_registered_there_goes_in_and_another_code_does_not() -> None:
    hall = Hall()
    assert hall.door.screen(request("MESSAGE", DEVICE), HOME) is None
    assert hall.door.screen(request("MESSAGE", DEVICE), ABROAD) == (403, ())
    assert hall.door.screen(request("MESSAGE", OTHER), HOME) == (403, ())
    assert hall.door.screen(request("BYE", OTHER, to_tag="x"), HOME) is None  # its dialog decides
    assert hall.door.screen(request("REGISTER", OTHER), HOME) is None
    assert hall.door.screen(request("OPTIONS", OTHER), ABROAD) is None


def test_an_address_is_slowed_then_banned_and_home_is_not() -> None:
    hall = Hall()
    assert [hall.door.admits(ABROAD) for _ in range(7)] == [True] * 5 + [False] * 2
    hall.clock.advance(2.0)
    assert [hall.door.admits(ABROAD) for _ in range(3)] == [True, True, False]
    for _ in range(7):
        hall.door.admits(ABROAD)
    assert [ban.reason for ban in hall.bans.running(hall.clock.at())] == [BanReason.FLOOD]
    hall.clock.advance(10.0)
    assert hall.door.admits(ABROAD)
    assert hall.door.screen(request("REGISTER"), ABROAD) == (403, (("X-GB-Ver", "3.0"),))
    assert all(hall.door.admits(HOME) for _ in range(1_000))


def test_a_stranger_at_a_shared_address_is_slowed_there() -> None:
    hall = Hall()
    answers = [hall.door.screen(request("MESSAGE", OTHER), HOME) for _ in range(7)]
    assert answers == [(403, ())] * 5 + [(0, ())] * 2
    assert hall.door.screen(request("MESSAGE", DEVICE), HOME) is None


def test_a_guesser_is_banned_by_address_abroad_and_by_code_at_home() -> None:
    hall = Hall()
    for _ in range(MAX_FAILURES):
        hall.door.failed(OTHER, ABROAD, BanReason.DIGEST)
        hall.door.failed(OTHER, HOME, BanReason.DIGEST)
    subjects = {ban.subject for ban in hall.bans.running(hall.clock.at())}
    assert subjects == {ABROAD.host, f"{OTHER}@{HOME.host}"}
    assert hall.door.is_banned(OTHER, ABROAD)
    assert hall.door.is_banned(OTHER, HOME)
    assert not hall.door.is_banned(DEVICE, HOME)


def test_who_is_registered_is_not_locked_out_by_somebody_who_fails_in_its_name() -> None:
    hall = Hall()
    for _ in range(2 * MAX_FAILURES):
        hall.door.failed(DEVICE, HOME, BanReason.DIGEST)
    assert not hall.door.is_banned(DEVICE, HOME)


def test_a_registration_gives_back_what_it_took() -> None:
    hall = Hall()
    for _ in range(1_000):
        assert hall.door.admits(ABROAD)
        assert hall.door.admits(ABROAD)
        hall.door.passed(ABROAD)
    assert hall.strangers.dropped == 0


def test_connections_of_one_strange_address_are_bounded() -> None:
    hall = Hall()
    assert hall.door.admits_connection(ABROAD, 1)
    assert not hall.door.admits_connection(ABROAD, 2)
    assert hall.door.admits_connection(HOME, 1_000)
    hall.bans.ban(ABROAD.host, BanReason.FLOOD, hall.clock.at())
    assert not hall.door.admits_connection(ABROAD, 0)
