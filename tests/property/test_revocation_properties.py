"""Any bytes between the marks of a revocation list give times or nothing."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from tongshi.gateways.signalling.revocation import next_updates


@given(st.binary(max_size=400))
def test_any_bytes_are_read(body: bytes) -> None:
    text = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(body) + b"-----END X509 CRL-----\n"
    assert isinstance(next_updates(text), list)
    assert next_updates(body) == []
