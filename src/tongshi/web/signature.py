"""What is signed of a request between platforms, and how. Both ends use this one function.

A signature covers method, path, sorted query, body digest, time, nonce, the platform that is meant, and on
whose behalf; a request cannot be turned to another platform, another user or another body.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

ALGORITHMS = ("sm3", "sha256")
VERSION = "TONGSHI-V1"


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
