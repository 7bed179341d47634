"""What all our TLS connections share: the least version, no passwords, and why a handshake failed."""

from __future__ import annotations

import ssl

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


def harden(context: ssl.SSLContext) -> None:
    """TLS 1.2 and later, without what has been attacked."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def no_password() -> str:
    """A key behind a password would make OpenSSL ask at the terminal."""
    return ""


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
