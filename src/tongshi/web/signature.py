"""What is signed of a request between platforms, and how. Both ends use this one function.

A signature covers method, path, sorted query, body digest, time, nonce, the platform that is meant, and on
whose behalf; a request cannot be turned to another platform, another user or another body.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tongshi.errors import Unauthenticated
from tongshi.web.ports import BodyDigest

ALGORITHMS = ("sm3", "sha256")
VERSION = "TONGSHI-V1"
WRONG = "签名不正确"
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}\Z")
_TIMESTAMP = re.compile(r"[0-9]{10,16}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Signable:
    """The parts that a signature covers, each as it travels.

    Attributes:
        path: as sent, still percent-encoded.
        raw_query: as sent, without the question mark.
        digest: value of X-Tongshi-Digest, ``sm3=<64 hex digits>``.
        timestamp_ms: value of X-Tongshi-Timestamp.
        audience: id of the platform that is to answer.
        on_behalf: value of X-Tongshi-OnBehalf, or empty.
    """

    method: str
    path: str
    raw_query: str
    digest: str
    timestamp_ms: str
    nonce: str
    audience: str
    on_behalf: str = ""

    def text(self) -> str:
        """The canonical text, one part a line."""
        query = "&".join(sorted(part for part in self.raw_query.split("&") if part))
        return "\n".join(
            (
                VERSION,
                self.method,
                self.path,
                query,
                self.digest,
                self.timestamp_ms,
                self.nonce,
                self.audience,
                self.on_behalf,
            )
        )


def digest_of(body: bytes, algorithm: str = "sm3") -> str:
    """Value of X-Tongshi-Digest for a body as it travels (after compression)."""
    return f"{algorithm}={hashlib.new(algorithm, body).hexdigest()}"


def sign(signable: Signable, secret: str, algorithm: str = "sm3") -> str:
    """Value of X-Tongshi-Sign."""
    value = hmac.new(secret.encode(), signable.text().encode("utf-8", "surrogatepass"), algorithm).hexdigest()
    return f"{algorithm}={value}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed head as it came: who it says it is of, what its signature covers, and what it promises."""

    key_id: str
    signable: Signable
    signature: str
    algorithm: str
    body_digest: BodyDigest

    def is_by(self, secret: str) -> bool:
        """Whether who knows this secret signed it, in constant time."""
        wanted = sign(self.signable, secret, self.algorithm)
        return hmac.compare_digest(wanted.encode(), self.signature.encode())

    def skew_ms(self, at: datetime) -> int:
        """How far its clock is before ours."""
        return int(self.signable.timestamp_ms) - int(at.timestamp() * 1000)


def read_signed(method: str, path: str, raw_query: str, headers: Mapping[str, str], audience: str) -> Signed:
    """Read the headers of a signed request that is meant for ``audience``; nothing is believed yet.

    Raises:
        Unauthenticated: a header is missing or malformed (40102).
    """
    nonce, timestamp_ms = headers.get("x-tongshi-nonce", ""), headers.get("x-tongshi-timestamp", "")
    digest_name, digest = _split(headers.get("x-tongshi-digest", ""), "X-Tongshi-Digest")
    sign_name, _ = _split(headers.get("x-tongshi-sign", ""), "X-Tongshi-Sign")
    if not _NONCE.match(nonce) or not _TIMESTAMP.match(timestamp_ms):
        raise Unauthenticated("缺少签名头，或格式不对", code=40102)
    signable = Signable(
        method,
        path,
        raw_query,
        headers["x-tongshi-digest"],
        timestamp_ms,
        nonce,
        audience,
        headers.get("x-tongshi-onbehalf", ""),
    )
    key_id = headers.get("x-tongshi-key", "")[:64]
    return Signed(key_id, signable, headers["x-tongshi-sign"], sign_name, BodyDigest(digest_name, digest))


def _split(value: str, name: str) -> tuple[str, bytes]:
    algorithm, _, digits = value.partition("=")
    if algorithm not in ALGORITHMS or not _HEX.match(digits):
        raise Unauthenticated(f"{name} 应为 sm3=… 或 sha256=…（64 位小写十六进制）", code=40102)
    return algorithm, bytes.fromhex(digits)
