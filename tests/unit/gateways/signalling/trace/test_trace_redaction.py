"""What is shown and downloaded holds no secret, and has the length of what was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongshi.gateways.signalling.trace.redaction import redact

REGISTER = (
    b"REGISTER sip:34020000002000000001@3402000000 SIP/2.0\r\nCall-ID: one\r\n"
    b'Authorization: Digest username="34020000001320000001", realm="3402000000",'
    b'\r\n nonce="43fa8a0f3e1e8f2c",\r\n uri="sip:34020000002000000001@3402000000",'
    b' response="ae2cc3a0c1f4c7b6",'
    b' algorithm=MD5, cnonce="0a4f"\r\n'
    b"Content-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("said", "secrets"),
    [
        (REGISTER, [b"43fa8a0f3e1e8f2c", b"ae2cc3a0c1f4c7b6", b"0a4f"]),
        (b'SIP/2.0 401 x\r\nWWW-Authenticate: Digest nonce="5e8f2c43fa8a"\r\n\r\n', [b"5e8f2c43fa8a"]),
        (b"REGISTER s SIP/2.0\r\nAuthorization: Basic YWRtaW46YWRt\r\n\r\n", [b"YWRtaW46YWRt"]),
        (b"x\r\nproxy-authorization:Digest response=deadbeef,nonce=cafe01\r\n\r\n", [b"deadbeef", b"cafe01"]),
        (b'x\r\nNote: Digest nonce="abc123", digest="c0ffee"\r\n\r\n', [b"abc123", b"c0ffee"]),
        (b"BROKEN response=deadbeef, nonce=cafe01", [b"deadbeef", b"cafe01"]),
        (b"x\r\n\r\n<Item><Password>geheim</Password></Item>", [b"geheim"]),
        (b"x\r\n\r\n<FileURL>ftp://root:geheim@10.0.0.1/fw.bin</FileURL>", [b"geheim"]),
        (b"x\r\n\r\n<UploadURL>http://10.0.0.1/snap?token=geheim&amp;n=1</UploadURL>", [b"geheim"]),
        (b"x\r\n\r\n<UploadURL>http://a:9/snapshots/" + b"geheim__" * 4 + b"</UploadURL>", [b"geheim__"]),
        (b"INVITE sip:u:geheim@10.0.0.1 SIP/2.0\r\n\r\n", [b"geheim"]),
        (b"x\r\n\r\nv=0\r\nk=base64:geheim\r\na=crypto:1 AES inline:geheim\r\n", [b"geheim"]),
    ],
)  # fmt: skip
def test_secrets_are_blotted_out_and_the_length_stays(said: bytes, secrets: list[bytes]) -> None:
    shown = redact(said)
    assert len(shown) == len(said)
    assert not [secret for secret in secrets if secret in shown]


def test_what_helps_to_find_a_fault_stays() -> None:
    shown = redact(REGISTER)
    for kept in (
        b'username="34020000001320000001"',
        b'realm="3402000000"',
        b"algorithm=MD5",
        b"uri=",
        b"Call-ID: one",
    ):
        assert kept in shown


@given(st.binary(max_size=2_000))
def test_any_bytes_keep_their_length(said: bytes) -> None:
    assert len(redact(said)) == len(said)
