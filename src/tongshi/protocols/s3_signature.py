"""Signing requests to an S3 object store: signature version 4 in the Authorization header, path style.

After: AWS Signature Version 4 (Authenticating Requests: Using the Authorization Header)
No I/O: the time and the digest of the body come as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs; the secret never prints."""

    key: str
    secret: str
    region: str

    def __repr__(self) -> str:
        return f"Credentials(key={self.key!r}, secret='***', region={self.region!r})"


def path_of(*parts: str) -> str:
    """An encoded path: each part may contain ``/``, which stays."""
    return "/" + "/".join(quote(part, safe="/-_.~") for part in parts)


def signed(
    credentials: Credentials,
    method: str,
    host: str,
    path: str,
    at: datetime,
    *,
    body_sha256: str = EMPTY_SHA256,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a request with its signature; ``path`` is encoded already and has no query.

    Args:
        host: as the Host header will say it, with the port when it is not the scheme's own.
        headers: further headers, which are signed too.
    """
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    told = {**(headers or {}), "x-amz-content-sha256": body_sha256, "x-amz-date": moment}
    lines = {"host": host, **{name.lower(): value.strip() for name, value in told.items()}}
    names = ";".join(sorted(lines))
    canonical = "\n".join(
        (method, path, "", *(f"{name}:{lines[name]}" for name in sorted(lines)), "", names, body_sha256)
    )
    scope = f"{moment[:8]}/{credentials.region}/s3/aws4_request"
    to_sign = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    authorization = (
        f"{_ALGORITHM} Credential={credentials.key}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return {**told, "Authorization": authorization}
