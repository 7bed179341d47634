"""TLS of a node's control at the platform: what is believed of the certificate that the node shows.

The node's certificate must be signed by one of the platform's file of certificates, or stand in that file
itself (then it alone is believed), and name the address that is called. Who calls proves itself by its
signature, as without TLS.
"""

from __future__ import annotations

import ssl

from tongshi.errors import InvalidRequest
from tongshi.gateways.tls import harden, reason_of


def trusting(ca: str) -> ssl.SSLContext:
    """For the platform; without a file the authorities that the system knows.

    Raises:
        InvalidRequest: the file is missing, or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    harden(context)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the node's own certificate may stand in the file
    if not ca:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise InvalidRequest(f"CA 文件 {ca} 不能使用：{error}", field="media.nodes.ca") from error
    return context


def words_of(error: BaseException) -> str:
    """Why a call did not reach the node, from what lies behind the client's own error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError | ConnectionError):
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
