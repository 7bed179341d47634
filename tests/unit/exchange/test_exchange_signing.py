"""Signatures, waiting times and the wire form, without a network."""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import replace

import msgspec
import pytest

from tongshi.clock import ManualClock
from tongshi.errors import Gone, LimitExceeded, PeerFailed
from tongshi.exchange import client, worker
from tongshi.exchange.model import PushResult
from tongshi.exchange.signing import Signer
from tongshi.web.signature import Signable, digest_of, sign

SIGNABLE = Signable("POST", "/a%20b", "z=1&a=2&a=1", "sm3=00", "1767225600000", "n" * 16, "3100", "")


def test_the_canonical_text_is_the_documented_one() -> None:
    assert SIGNABLE.text() == (
        "TONGSHI-V1\nPOST\n/a%20b\na=1&a=2&z=1\nsm3=00\n1767225600000\nnnnnnnnnnnnnnnnn\n3100\n"
    )


def test_the_order_of_the_query_does_not_matter() -> None:
    assert sign(SIGNABLE, "k") == sign(replace(SIGNABLE, raw_query="a=1&z=1&a=2"), "k")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/"},
        {"raw_query": "z=1&a=2"},
        {"digest": "sm3=01"},
        {"timestamp_ms": "1767225600001"},
        {"nonce": "m" * 16},
        {"audience": "3101"},
        {"on_behalf": "u"},
    ],
)
def test_every_part_is_covered_by_the_signature(change: dict[str, str]) -> None:
    assert sign(replace(SIGNABLE, **change), "k") != sign(SIGNABLE, "k")


def test_sha256_agrees_with_a_signature_made_by_hand() -> None:
    wanted = hmac.new(b"k", SIGNABLE.text().encode(), "sha256").hexdigest()
    assert sign(SIGNABLE, "k", "sha256") == f"sha256={wanted}"
    assert digest_of(b"x", "sha256") == f"sha256={hashlib.sha256(b'x').hexdigest()}"


def test_each_request_has_its_own_nonce_and_never_shows_the_secret() -> None:
    signer = Signer("k", "very-secret", "3100", ManualClock())
    first, second = (signer.headers("GET", "/", "", b"") for _ in range(2))
    assert first["X-Tongshi-Nonce"] != second["X-Tongshi-Nonce"]
    assert "very-secret" not in repr(signer) + str(first)


def test_waiting_doubles_up_to_five_minutes_and_is_spread() -> None:
    rng = random.Random(1)
    waits = [worker.backoff_s(failures, rng) for failures in range(40)]
    assert all(0.5 <= wait <= worker.LONGEST_WAIT_S for wait in waits)
    assert waits[0] <= 1.0 < waits[3] < waits[7]
    assert len(set(waits[20:])) == 20


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (410, b'{"code":41001,"msg":"x","data":{}}', Gone),
        (429, b'{"code":42901,"msg":"x","data":{"retryAfterS":3}}', LimitExceeded),
        (500, b'{"code":50000,"msg":"x","data":null}', PeerFailed),
        (200, b'{"code":0,"msg":"x","data":{"position":"far"}}', PeerFailed),
        (200, b"<html>", PeerFailed),
        (200, b"[" * 100_000, PeerFailed),
        (502, b"", PeerFailed),
        (403, b'{"code":40301,"msg":"x","data":[1]}', PeerFailed),
    ],
)
def test_whatever_a_peer_answers_is_a_value_or_a_named_error(
    status: int, body: bytes, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        client._read(status, body, PushResult)


def test_an_error_of_the_peer_is_cut_and_named() -> None:
    body = msgspec.json.encode({"code": 50000, "msg": "长" * 10_000, "data": None})
    with pytest.raises(PeerFailed) as refusal:
        client._read(500, body, PushResult)
    assert len(refusal.value.message) < 300
    assert refusal.value.details == {"peerStatus": 500, "peerCode": 50000}
