"""The file of certificates that their CA has withdrawn: read when it changes, said aloud when it is stale.

Implements: GB/T 28181-2022 8.2
One file in PEM with a list of each CA that signs certificates of peers. OpenSSL refuses a peer whose CA has
no list in it or one whose time is over: a list that is not renewed must not let the withdrawn in again. A new
file that cannot be read leaves the last good one in force; a copy of that is kept, for OpenSSL reads lists
from files alone.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import structlog

from tongshi.clock import Clock
from tongshi.errors import InvalidRequest
from tongshi.gateways.certificates import WatchedFiles

log = structlog.get_logger(__name__)

MAX_BYTES = 16 << 20
_LIST = re.compile(rb"-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]{1,22000000})-----END X509 CRL-----")
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}


class RevocationLists:
    """What a file says now.

    Raises:
        InvalidRequest: at the start there is no such file, or none in which OpenSSL finds a list.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = Path(path)
        self._clock = clock
        self._file = WatchedFiles((path,), clock)
        self._good = self._read()
        self._warn()

    def has_changed(self) -> bool:
        """Look at the file. True when it brought other lists than those in force."""
        if not self._file.have_changed():
            return False
        try:
            self._good = self._read()
        except InvalidRequest as error:
            log.error("sip_tls_crl_unreadable", path=str(self._path), reason=error.message)
            return False
        log.info("sip_tls_crl_read", path=str(self._path))
        self._warn()
        return True

    def apply(self, context: ssl.SSLContext) -> None:
        """Let a context refuse what the lists name."""
        context.load_verify_locations(cafile=self._good.name)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    def _read(self) -> IO[bytes]:
        """A copy of the file, when OpenSSL can use it; it goes with who holds it."""
        text = f"吊销列表文件 {self._path} 不能使用"
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise InvalidRequest(f"{text}：超过 {MAX_BYTES >> 20} MB", field="signalling.tls.crl")
            data = self._path.read_bytes()
            copy = tempfile.NamedTemporaryFile(prefix="tongshi-", suffix=".crl")  # noqa: SIM115  # kept
            copy.write(data)
            copy.flush()
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=copy.name)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{text}：{error}", field="signalling.tls.crl") from error
        if not _LIST.search(data):
            raise InvalidRequest(f"{text}：其中没有吊销列表", field="signalling.tls.crl")
        return copy

    def _warn(self) -> None:
        """Say which lists are stale: whoever their CA has signed is refused until there is a new one."""
        for until in next_updates(Path(self._good.name).read_bytes()):
            if until <= self._clock.at():
                log.error("sip_tls_crl_expired", path=str(self._path), next_update=until.isoformat())


def next_updates(data: bytes) -> list[datetime]:
    """When each list of a PEM file is to be replaced; a list that does not say is left out."""
    found = []
    for body in _LIST.findall(data):
        try:
            until = _next_update(base64.b64decode(body))
        except (binascii.Error, IndexError, ValueError):
            continue
        if until is not None:
            found.append(until)
    return found


def _next_update(der: bytes) -> datetime | None:
    """nextUpdate of a CertificateList (RFC 5280 5.1): the second time among its first few fields."""
    _, at, _ = _field(der, 0)
    _, at, end = _field(der, at)
    times: list[datetime] = []
    for _ in range(6):  # version, signature, issuer, thisUpdate, nextUpdate, and what may follow
        if at >= end:
            break
        tag, begin, at = _field(der, at)
        if tag in _TIMES:
            times.append(datetime.strptime(der[begin:at].decode("ascii"), _TIMES[tag]).replace(tzinfo=UTC))
    return times[1] if len(times) > 1 else None


def _field(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, beginning and end of the value of a DER field."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4:
            raise ValueError("length of a DER field")
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    if at + length > len(der):
        raise ValueError("truncated DER")
    return tag, at, at + length
