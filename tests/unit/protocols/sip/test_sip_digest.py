"""Digest: the standard's vectors, both sides, nonces."""

from __future__ import annotations

import pytest

from tongshi.errors import RemoteViolation, Unsupported
from tongshi.protocols.sip.digest import (
    Authorization,
    Challenge,
    NonceState,
    NonceStore,
    answer,
    secret_hash,
    strongest,
    verify,
)

USER, REALM, PASSWORD = "34020000001320000001", "3402000000", "Gb28181@2022"
NONCE = "6f1c2a9d4e7b80356f1c2a9d4e7b8035"
URI = "sip:34020000002000000001@3402000000"
HA1 = {
    "MD5": "28e427fc4717d70629d34dd07eeb4314",
    "SM3": "35a933c23575558c1ab667a7d1b7bb9b4cc0bebe678df6f727fd611461227912",
}
RESPONSES = {
    ("MD5", ""): "caa2384ce9a586a41cdbdf9aba3a28b2",
    ("MD5", "auth"): "bf4bab931215b53fde94f995435c0c33",
    ("SM3", ""): "5baa3513717e90cad20d3f7b846e80e79ac39eb0cdeb63293296e216586a6971",
    ("SM3", "auth"): "c7e4afbf714a6a2fa3dfdccdb4ba6992a9a1bb3fc5df42bb0d887d12f3204f34",
}


def answered(algorithm: str = "MD5", qop: str = "", nonce: str = NONCE, count: int = 1) -> Authorization:
    challenge = Challenge(REALM, nonce, algorithm, qop)
    return answer(
        challenge,
        username=USER,
        password=PASSWORD,
        method="REGISTER",
        uri=URI,
        cnonce="0a4f113b",
        count=count,
    )


@pytest.mark.parametrize(("algorithm", "qop"), list(RESPONSES))
def test_vectors_of_the_dossier(algorithm: str, qop: str) -> None:
    assert secret_hash(algorithm, USER, REALM, PASSWORD) == HA1[algorithm]
    credentials = answered(algorithm, qop)
    assert credentials.response == RESPONSES[algorithm, qop]
    assert credentials.nc == ("00000001" if qop else "")


def test_sha256_example_of_rfc_7616() -> None:
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    opaque = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    challenge = Challenge("http-auth@example.org", nonce, "SHA-256", "auth, auth-int", opaque)
    credentials = answer(
        challenge,
        username="Mufasa",
        password="Circle of Life",
        method="GET",
        uri="/dir/index.html",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert credentials.response == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"


@pytest.mark.parametrize("algorithm", ["MD5", "md5", "SHA-256", "SM3"])
@pytest.mark.parametrize("qop", ["", "auth"])
def test_an_answer_survives_the_wire_and_verifies(algorithm: str, qop: str) -> None:
    credentials = Authorization.parse(answered(algorithm, qop).render())
    assert credentials == answered(algorithm, qop)
    ha1 = secret_hash(algorithm, USER, REALM, PASSWORD)
    assert verify(credentials, method="REGISTER", ha1=ha1)
    assert not verify(credentials, method="MESSAGE", ha1=ha1)
    assert not verify(credentials, method="REGISTER", ha1=secret_hash(algorithm, USER, REALM, "wrong"))


def test_upper_case_response_digits_verify() -> None:
    text = answered().render().replace(RESPONSES["MD5", ""], RESPONSES["MD5", ""].upper())
    assert verify(Authorization.parse(text), method="REGISTER", ha1=HA1["MD5"])


def test_an_unknown_algorithm_is_refused_and_never_verifies() -> None:
    with pytest.raises(Unsupported):
        answered("SHA-512")
    text = answered().render().replace("algorithm=MD5", "algorithm=NONE")
    assert not verify(Authorization.parse(text), method="REGISTER", ha1=HA1["MD5"])


def test_the_strongest_known_challenge_is_answered() -> None:
    offers = [Challenge(REALM, NONCE, name) for name in ("MD5", "SHA-512-256", "SHA-256", "SM3")]
    chosen = strongest(offers)
    assert chosen is not None
    assert chosen.algorithm == "SHA-256"
    assert strongest(offers[1:2]) is None


def test_a_challenge_survives_the_wire() -> None:
    challenge = Challenge('a "quoted\\" realm', NONCE, "SM3", "auth", "opaque", is_stale=True)
    assert Challenge.parse(challenge.render()) == challenge
    assert Challenge.parse(f'digest nonce={NONCE},realm="x"') == Challenge("x", NONCE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Basic QQ==",
        "Digest",
        "Digest realm",
        'Digest username="a',
        'Digest username="a", realm="b", nonce="c", uri="d"',
        'Digest username="a", realm="b", nonce="c", uri="d", response="e", qop=auth',
        'Digest username="a", realm="b", nonce="c", uri="d", response="e", qop=auth, nc=1, cnonce="x"',
        'Digest username="a", realm="b", nonce="c", uri="d", response="e", qop=x, nc=00000001, cnonce="x"',
    ],
)
def test_malformed_credentials_are_refused(text: str) -> None:
    with pytest.raises(RemoteViolation):
        Authorization.parse(text)


def test_a_nonce_without_qop_is_good_once() -> None:
    store = NonceStore(b"s" * 16, lifetime_s=60)
    nonce = store.issue(1000.0, b"rand")
    assert len(nonce) == 32
    assert store.accept(answered(nonce=nonce), 1010.0) is NonceState.FRESH
    assert store.accept(answered(nonce=nonce), 1011.0) is NonceState.REPLAYED


def test_a_nonce_with_qop_is_good_for_every_higher_count() -> None:
    store = NonceStore(b"s" * 16, lifetime_s=60)
    nonce = store.issue(1000.0, b"rand")
    for count, state in ((1, "FRESH"), (2, "FRESH"), (2, "REPLAYED"), (1, "REPLAYED"), (5, "FRESH")):
        assert store.accept(answered(qop="auth", nonce=nonce, count=count), 1001.0).name == state


def test_an_old_nonce_is_stale_and_a_foreign_one_unknown() -> None:
    store = NonceStore(b"s" * 16, lifetime_s=60)
    nonce = store.issue(1000.0, b"rand")
    assert store.accept(answered(nonce=nonce), 1061.5) is NonceState.STALE
    other = NonceStore(b"t" * 16).issue(1000.0, b"rand")
    for foreign in (other, NONCE, "", "x" * 32, nonce.upper() + "0"):
        assert store.accept(answered(nonce=foreign), 1000.0) is NonceState.UNKNOWN


def test_issuing_costs_no_memory_and_used_nonces_are_bounded_without_reopening_replay() -> None:
    store = NonceStore(b"s" * 16, lifetime_s=60, max_used=10)
    nonces = [store.issue(1000.0 + number, number.to_bytes(4, "big")) for number in range(20)]
    assert len(store) == 0
    for nonce in nonces:
        store.accept(answered(nonce=nonce), 1020.0)
    assert len(store) <= 10
    for nonce in nonces:
        assert store.accept(answered(nonce=nonce), 1021.0) is not NonceState.FRESH
