"""TLS of the SIP sockets: with which certificate we speak, whom we believe, and why a handshake failed.

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
from pathlib import Path

import structlog

from tongshi.clock import Clock, SystemClock
from tongshi.errors import InvalidRequest, Unavailable
from tongshi.gateways.signalling.revocation import RevocationLists
from tongshi.protocols.sip.message import Remote

log = structlog.get_logger(__name__)

DEFAULT_PORT = 5061
HANDSHAKE_S = 5.0
SHUTDOWN_S = 1.0
MAX_HANDSHAKES = 256  # of those who dial us, at once: half open they cost a socket and nothing is proved

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
# OpenSSL's X509_V_ERR_* of what really happens to platforms.
_VERIFY_REASONS = {
    3: "吊销列表文件中没有该签发者的列表",
    9: "证书尚未生效",
    10: "证书已过期",
    11: "吊销列表尚未生效",
    12: "吊销列表已过期，须更新列表文件",
    18: "证书是自签名的，不受信任",
    19: "证书链中有不受信任的自签名证书",
    20: "证书的签发者未知（CA 不受信任）",
    21: "证书的签发者未知（CA 不受信任）",
    23: "证书已被吊销",
    62: "证书中的名称与对端地址不符",
    64: "证书中的地址与对端地址不符",
}
_ALERT_REASONS = (
    ("CERTIFICATE_REQUIRED", "对端要求客户端证书"),
    ("CERTIFICATE_REVOKED", "对端认为我方证书已被吊销"),
    ("CERTIFICATE_EXPIRED", "对端认为我方证书已过期"),
    ("UNKNOWN_CA", "对端不信任我方证书的签发者"),
    ("BAD_CERTIFICATE", "对端拒绝了我方证书"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "对端没有出示客户端证书"),
    ("WRONG_VERSION_NUMBER", "对端没有使用 TLS"),
    ("HTTP_REQUEST", "对端没有使用 TLS"),
    ("UNSUPPORTED_PROTOCOL", "对端的 TLS 版本过低"),
    ("PROTOCOL_VERSION", "双方没有共同的 TLS 版本"),
)


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
    """The contexts of one endpoint, made once, and anew when the file of revocation lists changes.

    Raises:
        InvalidRequest: a file is missing or unreadable, or key and certificate do not fit.
    """

    def __init__(self, plan: TlsPlan, clock: Clock | None = None) -> None:
        self.port = plan.port
        self._plan = plan
        self._revoked = RevocationLists(plan.crl, clock or SystemClock()) if plan.crl else None
        self._default = Trust(ca=plan.peer_ca)
        self._make()

    def _make(self) -> None:
        plan = self._plan
        self._server = None if plan.port is None else self._listening()
        self._diallings = {
            at: self._dialling(at[0], replace(trust, ca=plan.peer_ca) if trust.is_empty else trust)
            for at, trust in plan.trusts.items()
            if plan.peer_ca or not trust.is_empty
        }
        if plan.peer_ca:
            self._dialling("", self._default)  # an unreadable file is told at the start

    def server(self) -> ssl.SSLContext:
        """For who dials us now. Only where there is a port."""
        self._renew()
        assert self._server is not None  # the caller looked at ``port``
        return self._server

    def _renew(self) -> None:
        if self._revoked is not None and self._revoked.has_changed():
            self._make()

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
        _harden(context)
        self._show_ours(context)
        if self._plan.client_ca:
            _load_ca(context, self._plan.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            self._refuse_revoked(context)
        return context

    def _dialling(self, host: str, trust: Trust) -> Dialling:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(context)
        if self._plan.certificate:
            self._show_ours(context)
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

    def _show_ours(self, context: ssl.SSLContext) -> None:
        plan = self._plan
        for path in (plan.certificate, plan.key):
            if not Path(path).is_file():
                raise InvalidRequest(f"TLS 文件 {path or '（未填写）'} 不存在", field="signalling.tls")
        try:
            context.load_cert_chain(plan.certificate, plan.key, password=_no_password)
        except (ssl.SSLError, OSError) as error:
            text = f"TLS 证书 {plan.certificate} 与私钥 {plan.key} 不能使用：{error}"
            raise InvalidRequest(text, field="signalling.tls") from error


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


def reason_of(error: BaseException, *, is_tls: bool = True) -> str:
    """Why a connection did not come to be, in words that its owner can act on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = _VERIFY_REASONS.get(error.verify_code, error.verify_message)
        return f"TLS 握手失败：{said}"
    if isinstance(error, ssl.SSLError):
        said = f"{error.reason or ''} {error}".upper().replace(" ", "_")
        known = next((text for mark, text in _ALERT_REASONS if mark in said), "")
        return f"TLS 握手失败：{known or error.reason or error}"
    if isinstance(error, TimeoutError):
        return "连接超时"
    if isinstance(error, ConnectionAbortedError):
        return "TLS 握手超时"
    if isinstance(error, ConnectionRefusedError):
        return "对端拒绝连接（端口未开放）"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "对端在 TLS 握手完成前中断了连接（可能不使用 TLS）" if is_tls else "对端中断了连接"
    return str(error) or type(error).__name__


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(f"CA 文件 {path} 不能使用：{error}", field="signalling.tls") from error


def _no_password() -> str:
    """A key behind a password would make OpenSSL ask at the terminal."""
    return ""
