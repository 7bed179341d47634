"""TLS of the SIP sockets: with which certificate we speak, and whom we believe.

Implements: GB/T 28181-2022 8.2
Hop by hop, TLS 1.2 and later. A server that we dial is believed by the CA that its account names, by the
fingerprint of its one certificate, or by the CA of the whole platform; with none of the three it is not
dialled. Not looking at all must be written down for that one server, and is said in the log at each start.
Whom a revocation list names is believed nowhere (``revocation``), except by its fingerprint.
Who dials us is believed by digest as over any transport, and by a client certificate too where ``client_ca``
is set.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from tongshi.clock import Clock, SystemClock
from tongshi.errors import InvalidRequest, Unavailable
from tongshi.gateways.certificates import OwnCertificate
from tongshi.gateways.signalling.revocation import RevocationLists
from tongshi.gateways.tls import harden
from tongshi.protocols.sip.message import Remote

log = structlog.get_logger(__name__)

HANDSHAKE_S = 5.0
SHUTDOWN_S = 1.0
MAX_HANDSHAKES = 256  # of those who dial us, at once: half open they cost a socket and nothing is proved

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Trust:
    """What proves that a server is the one we mean.

    Attributes:
        ca: file of the certificates that may have signed its own.
        fingerprint: SHA-256 of its one certificate, 64 hex digits; then nothing else is looked at, not
            even its dates.
        name: what its certificate is to name instead of the address we dial.
        is_insecure: nothing is looked at; whoever answers there is believed.
    """

    ca: str = ""
    fingerprint: str = ""
    name: str = ""
    is_insecure: bool = False

    @property
    def is_empty(self) -> bool:
        """Nothing is said of how to believe it."""
        return not (self.ca or self.fingerprint or self.is_insecure)


@dataclass(frozen=True, slots=True)
class TlsPlan:
    """TLS of one endpoint.

    Attributes:
        certificate, key: files (PEM); ours toward who dials us and, where they ask for one, toward servers.
        port: where we listen, 0 chooses one; None: we only dial.
        client_ca: file; who dials us must show a certificate signed by one of these.
        peer_ca: file; for servers that have no word of their own in ``trusts``.
        crl: file; what its lists name is not believed, nor is a CA without a list that is in force.
        trusts: by host and port.
    """

    certificate: str = ""
    key: str = ""
    port: int | None = None
    client_ca: str = ""
    peer_ca: str = ""
    crl: str = ""
    trusts: Mapping[tuple[str, int], Trust] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialling:
    """How one server is dialled: the context, the name to check, the fingerprint to compare."""

    context: ssl.SSLContext
    server_name: str
    fingerprint: str = ""


class Tls:
    """The contexts of one endpoint, made once, and anew when our certificate or the revocation lists change.

    Raises:
        InvalidRequest: a file is missing or unreadable, or key and certificate do not fit.
    """

    def __init__(self, plan: TlsPlan, clock: Clock | None = None) -> None:
        self.port = plan.port
        self._plan = plan
        clock = clock or SystemClock()
        self._revoked = RevocationLists(plan.crl, clock) if plan.crl else None
        shown = plan.certificate or plan.port is not None
        self._own = OwnCertificate(plan.certificate, plan.key, clock, "signalling.tls") if shown else None
        self._default = Trust(ca=plan.peer_ca)
        self._is_stale = False
        self._make()

    def _make(self) -> None:
        plan = self._plan
        server = None if plan.port is None else self._listening()
        diallings = {
            at: self._dialling(at[0], replace(trust, ca=plan.peer_ca) if trust.is_empty else trust)
            for at, trust in plan.trusts.items()
            if plan.peer_ca or not trust.is_empty
        }
        if plan.peer_ca:
            self._dialling("", self._default)  # an unreadable file is told at the start
        self._server, self._diallings = server, diallings

    def server(self) -> ssl.SSLContext:
        """For who dials us now. Only where there is a port."""
        self._renew()
        assert self._server is not None  # the caller looked at ``port``
        return self._server

    def _renew(self) -> None:
        """Take up what changed; what stands as long as a file beside it cannot be used is tried again."""
        if self._revoked is not None and self._revoked.has_changed():
            self._is_stale = True
        if self._own is not None and self._own.look():
            self._is_stale = True
        if not self._is_stale:
            return
        try:
            self._make()
        except InvalidRequest as error:
            log.error("sip_tls_not_renewed", reason=error.message)
        else:
            self._is_stale = False

    def dialling(self, remote: Remote) -> Dialling:
        """How to dial that server. Raises Unavailable: nothing says how to believe it."""
        self._renew()
        known = self._diallings.get((remote.host, remote.port))
        if known is not None:
            return known
        if self._default.is_empty:
            raise Unavailable("没有配置校验该服务器证书的 CA 或指纹，不建立 TLS 连接")
        return self._dialling(remote.host, self._default)

    def _listening(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        harden(context)
        assert self._own is not None  # there is a port
        self._own.show(context)
        if self._plan.client_ca:
            _load_ca(context, self._plan.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            self._refuse_revoked(context)
        return context

    def _dialling(self, host: str, trust: Trust) -> Dialling:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        harden(context)
        if self._own is not None:
            self._own.show(context)
        fingerprint = parse_fingerprint(trust.fingerprint) if trust.fingerprint else ""
        if trust.is_insecure:
            log.warning("sip_tls_unverified", host=host, reason="sip_tls_insecure is set")
        if trust.ca and not trust.is_insecure:
            _load_ca(context, trust.ca)
            self._refuse_revoked(context)
        elif fingerprint or trust.is_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return Dialling(context, trust.name or host.strip("[]"), fingerprint)

    def _refuse_revoked(self, context: ssl.SSLContext) -> None:
        if self._revoked is not None:
            self._revoked.apply(context)


def parse_fingerprint(text: str) -> str:
    """64 hex digits in lower case, whatever separates them. Raises InvalidRequest."""
    plain = text.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if not _FINGERPRINT.match(plain):
        raise InvalidRequest("证书指纹须为 SHA-256 的 64 位十六进制数", field="sip_tls_fingerprint")
    return plain


def objection_to(dialling: Dialling, certificate: bytes | None) -> str:
    """Why a server with this certificate (DER) is not the one we mean; "" when it is."""
    if not dialling.fingerprint:
        return ""
    shown = hashlib.sha256(certificate or b"").hexdigest()
    return "" if shown == dialling.fingerprint else f"证书指纹不符（对端为 {shown}）"


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(f"CA 文件 {path} 不能使用：{error}", field="signalling.tls") from error
