"""How long a registrant waits, and what the configuration lets it ask for."""

from __future__ import annotations

import asyncio
import inspect
import random

import msgspec
import pytest

from tongshi.config.sections import SignallingSection
from tongshi.gateways.signalling.endpoint import Remote, SipEndpoint
from tongshi.gateways.signalling.registrant import Registrant
from tongshi.gateways.signalling.upward import UpperAccount

SERVER = "31000000002000000001"
AT = Remote("192.0.2.7", 5060, "udp")


def test_the_defaults_are_those_of_the_standard() -> None:
    defaults = {name: p.default for name, p in inspect.signature(Registrant).parameters.items()}
    account = UpperAccount(SERVER, AT, "", "")
    section = SignallingSection()
    assert (defaults["expires_s"], account.expires_s, section.registration_expires_s) == (86_400,) * 3
    assert (defaults["retry_s"], account.retry_s, section.registration_retry_s) == (60,) * 3
    assert (section.keepalive_interval_s, section.keepalive_count) == (60, 3)


@pytest.mark.parametrize("seconds", [0, 60, 3599])
def test_a_lifetime_below_an_hour_cannot_be_configured(seconds: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"registration_expires_s": seconds}, SignallingSection)


async def test_after_a_failure_it_waits_the_gap_and_a_random_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async def nobody(_: object) -> None:
        return None

    endpoint = SipEndpoint(local_id=SERVER, host="127.0.0.1", port=0, on_request=nobody, on_invite=nobody)
    registrant = Registrant(
        endpoint, server_id=SERVER, remote=AT, username="", password="", rng=random.Random(3)
    )
    monkeypatch.setattr(asyncio, "sleep", note)
    for _ in range(20):
        await registrant._pause(0)
    assert all(60 <= seconds <= 90 for seconds in waits)
    assert len(set(waits)) == 20
