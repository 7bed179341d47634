"""The headers of a signed request to another platform."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from tongshi.clock import Clock
from tongshi.web.signature import Signable, digest_of, sign


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one key towards one platform.

    Attributes:
        key_id, secret: as the platform gave them to us.
        audience: id of that platform; a signature for it is worth nothing elsewhere.
    """

    key_id: str
    secret: str = field(repr=False)
    audience: str
    clock: Clock
    algorithm: str = "sm3"
    new_nonce: Callable[[], str] = field(default=lambda: secrets.token_urlsafe(18), repr=False)

    def headers(
        self, method: str, path: str, raw_query: str, body: bytes, on_behalf: str = ""
    ) -> dict[str, str]:
        """Headers for one request; ``body`` as it travels, after compression."""
        signable = Signable(
            method=method,
            path=path,
            raw_query=raw_query,
            digest=digest_of(body, self.algorithm),
            timestamp_ms=str(int(self.clock.at().timestamp() * 1000)),
            nonce=self.new_nonce(),
            audience=self.audience,
            on_behalf=on_behalf,
        )
        headers = {
            "X-Tongshi-Key": self.key_id,
            "X-Tongshi-Timestamp": signable.timestamp_ms,
            "X-Tongshi-Nonce": signable.nonce,
            "X-Tongshi-Digest": signable.digest,
            "X-Tongshi-Sign": sign(signable, self.secret, self.algorithm),
        }
        if on_behalf:
            headers["X-Tongshi-OnBehalf"] = on_behalf
        return headers
