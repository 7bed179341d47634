"""Signatures for S3 are those of the examples that Amazon publishes."""

from __future__ import annotations

from datetime import UTC, datetime

from tongshi.protocols.s3_signature import Credentials, path_of, signed

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
HOST = "examplebucket.s3.amazonaws.com"
AT = datetime(2013, 5, 24, tzinfo=UTC)


def test_a_get_with_a_range_is_signed_as_in_the_published_example() -> None:
    headers = signed(EXAMPLE, "GET", HOST, "/test.txt", AT, headers={"Range": "bytes=0-9"})
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_a_put_is_signed_as_in_the_published_example() -> None:
    headers = signed(
        EXAMPLE,
        "PUT",
        HOST,
        path_of("test$file.text"),
        AT,
        body_sha256="44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        headers={"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
    )
    assert headers["Authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_secret_never_prints() -> None:
    assert "wJalr" not in repr(EXAMPLE)
