"""What we say: our identity, and requests from a draft to what leaves.

Implements: GB/T 28181-2022 6.1.2
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tongshi.errors import InvalidRequest
from tongshi.ids import sip_domain
from tongshi.protocols.sip.address import MAGIC, bracketed
from tongshi.protocols.sip.headers import Headers, Pairs
from tongshi.protocols.sip.message import Remote, Request

# RFC 3261 8.1.1.8 and RFC 6665: these methods make the peer call us back.
_WITH_CONTACT = frozenset(("INVITE", "REGISTER", "SUBSCRIBE", "NOTIFY"))
_ID = re.compile(r"[A-Za-z0-9._~!$&'*+-]{1,64}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """How we appear on the wire.

    Attributes:
        local_id: 20-digit code. host, port: where the peer reaches us; Via and Contact.
        tls_port: the same for TLS; 0 when we do not listen for it, and only connections of ours serve.
        headers: added to every message that does not carry them already.
    """

    local_id: str
    host: str
    port: int
    user_agent: str = ""
    headers: Pairs = ()
    tls_port: int = 0

    def at(self, remote: Remote) -> str:
        """Our host and port toward that remote."""
        port = (self.tls_port or self.port) if remote.transport == "tls" else self.port
        return f"{bracketed(self.host)}:{port}"

    def contact(self, remote: Remote, scheme: str = "sip", user: str = "") -> str:
        """Value of our Contact header toward that remote: over TLS it asks to be answered over TLS.

        scheme: of the Request-URI that we answer; one who called with ``sips`` is answered with it (RFC 3261
        12.1.1), and it implies TLS.
        """
        transport = ";transport=tls" if remote.transport == "tls" and scheme == "sip" else ""
        return f"<{scheme}:{user or self.local_id}@{self.at(remote)}{transport}>"


@dataclass(frozen=True, slots=True)
class Draft:
    """A request outside calls, before it has an address and a branch.

    REGISTER names ourselves in From and To and the peer's domain in the Request-URI; every other method names
    ``to_id`` in To and the peer's socket in the Request-URI. Empty fields are filled in.
    """

    method: str
    to_id: str
    headers: Pairs = ()
    body: bytes = b""
    content_type: str = ""
    from_id: str = ""
    request_uri: str = ""
    call_id: str = ""
    cseq: int = 1
    from_tag: str = ""
    to_tag: str = ""


class Composer:
    """Writes requests in the name of an identity; ``random_bytes`` is the source of tags and branches."""

    def __init__(self, identity: Identity, random_bytes: Callable[[int], bytes]) -> None:
        self._identity = identity
        self._random_bytes = random_bytes

    def compose(self, draft: Draft, remote: Remote) -> Request:
        """The whole request. Raises InvalidRequest for an id that no URI can carry."""
        identity = self._identity
        from_id = _user(draft.from_id or identity.local_id)
        to_id = _user(draft.to_id)
        is_register = draft.method == "REGISTER"
        at = sip_domain(to_id) if is_register else f"{bracketed(remote.host)}:{remote.port}"
        to_user = from_id if is_register else to_id
        to_tag = f";tag={draft.to_tag}" if draft.to_tag else ""
        table = Headers()
        table.add("From", f"<sip:{from_id}@{sip_domain(from_id)}>;tag={draft.from_tag or self.token()}")
        table.add("To", f"<sip:{to_user}@{sip_domain(to_user)}>{to_tag}")
        table.add("Call-ID", draft.call_id or f"{self.token()}@{bracketed(identity.host)}")
        table.add("CSeq", f"{draft.cseq} {draft.method}")
        if draft.method in _WITH_CONTACT and not any(name.lower() == "contact" for name, _ in draft.headers):
            table.add("Contact", identity.contact(remote, user=from_id))
        for name, value in draft.headers:
            table.add(name, value)
        if draft.content_type:
            table.add("Content-Type", draft.content_type)
        request_uri = draft.request_uri or f"sip:{to_id}@{at}"
        return self.finish(Request(draft.method, request_uri, table, draft.body), remote)

    def finish(self, request: Request, remote: Remote) -> Request:
        """Via first, then what the request says, then what we say in every message."""
        table = Headers()
        via = f"SIP/2.0/{remote.transport.upper()} {self._identity.at(remote)}"
        table.add("Via", f"{via};rport;branch={MAGIC}{self.token()}")
        hops = () if "Max-Forwards" in request.headers else (("Max-Forwards", "70"),)
        for name, value in self.with_ours((*request.headers, *hops)):
            table.add(name, value)
        request.headers = table
        return request

    def with_ours(self, headers: Pairs) -> Pairs:
        """The headers, then those of the identity that are not among them."""
        given = {name.lower() for name, _ in headers}
        ours = (("User-Agent", self._identity.user_agent), *self._identity.headers)
        return (*headers, *((name, value) for name, value in ours if value and name.lower() not in given))

    def token(self) -> str:
        """A tag, or what else nobody may guess."""
        return self._random_bytes(8).hex()


def _user(text: str) -> str:
    """An id that may stand in a URI; catalogues of careless peers hold others."""
    if not _ID.match(text):
        raise InvalidRequest("编码含有不能用于 SIP 地址的字符", field="deviceId")
    return text
