"""Dialogs: who speaks with whom under which tags, and how the next request inside is addressed.

Implements: GB/T 28181-2022 9.2
The Request-URI is the peer's Contact, or its source address when it sent none (quirk 27). The socket
address is always the one the peer really speaks from: that is the first hop of a route set, and the only
way back through NAT. Routes are copied as loose routes; strict routers of RFC 2543 are not served.
"""

from __future__ import annotations

from dataclasses import dataclass

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.address import NameAddr, Remote, bracketed, split_list
from tongshi.protocols.sip.message import Headers, Request, Response

_MAX_ROUTES = 16


@dataclass(slots=True)
class Dialog:
    """One dialog (RFC 3261 12).

    Attributes:
        local, remote: the two addresses with their tags; the remote tag may be empty (RFC 2543 peers).
        target: Request-URI of the next request. destination: where its bytes go.
        local_cseq: number of our last request. remote_cseq: of theirs, None before the first.
    """

    call_id: str
    local: NameAddr
    remote: NameAddr
    target: str
    destination: Remote
    local_cseq: int
    remote_cseq: int | None = None
    routes: tuple[str, ...] = ()

    @classmethod
    def from_answer(cls, request: Request, response: Response, source: Remote) -> Dialog:
        """The caller's view, from the request sent and a response with a To tag."""
        routes = _record_route(response)
        return cls(
            call_id=request.call_id,
            local=request.from_,
            remote=response.to,
            target=_target(response, source, request.to.uri.user),
            destination=source,
            local_cseq=request.cseq.number,
            routes=tuple(reversed(routes)),
        )

    @classmethod
    def from_request(cls, request: Request, local_tag: str, source: Remote) -> Dialog:
        """The callee's view, from the request received and the tag we answer with."""
        return cls(
            call_id=request.call_id,
            local=request.to.with_tag(local_tag),
            remote=request.from_,
            target=_target(request, source, request.from_.uri.user),
            destination=source,
            local_cseq=0,
            remote_cseq=request.cseq.number,
            routes=tuple(_record_route(request)),
        )

    def headers_of_next(self, method: str) -> Headers:
        """Route, From, To, Call-ID and CSeq of our next request; ACK repeats the number of its INVITE."""
        if method != "ACK":
            self.local_cseq += 1
        headers = Headers()
        for route in self.routes:
            headers.add("Route", route)
        headers.add("From", str(self.local))
        headers.add("To", str(self.remote))
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{self.local_cseq} {method}")
        return headers

    def belongs(self, request: Request) -> bool:
        """Does this request carry our remote's tag? A side without tags is believed (quirk 28)."""
        theirs, known = request.from_.tag, self.remote.tag
        return not theirs or not known or theirs == known

    def retarget(self, message: Request | Response, source: Remote) -> None:
        """Take the peer's new address from a refresh (RFC 3261 12.2); without Contact its source."""
        self.target = _target(message, source, self.remote.uri.user)
        self.destination = source

    def take_order(self, request: Request) -> bool:
        """Note the request's CSeq. False when it is older than one already seen (RFC 3261 12.2.2)."""
        number = request.cseq.number
        if self.remote_cseq is not None and number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True


def _target(message: Request | Response, source: Remote, user: str) -> str:
    contact = message.contact
    if contact is not None and contact.uri.scheme in ("sip", "sips"):
        return str(contact.uri)
    at = f"{user}@" if user else ""
    return f"sip:{at}{bracketed(source.host)}:{source.port}"


def _record_route(message: Request | Response) -> list[str]:
    routes = [part for line in message.headers.get_all("Record-Route") for part in split_list(line)]
    if len(routes) > _MAX_ROUTES:
        raise RemoteViolation("route set too long")
    return routes
