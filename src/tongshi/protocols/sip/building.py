"""Messages made from other messages: replies, ACK for a refusal, CANCEL."""

from __future__ import annotations

from collections.abc import Iterable

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.address import Remote, split_list
from tongshi.protocols.sip.message import Headers, Request, Response

MIRRORED = ("From", "To", "Call-ID", "CSeq")


def reply(
    request: Request,
    source: Remote,
    status: int,
    reason: str = "",
    *,
    to_tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "",
) -> Response:
    """A response that mirrors what RFC 3261 8.2.6.2 says.

    Args:
        source: true sender of the request; entered into the topmost Via (RFC 3581).
        to_tag: added to To when the request had none there; "" leaves To as it came (100, stateless answers).
        headers: further lines, in order.
    """
    table = Headers()
    vias = request.headers.get_all("Via")
    if vias:
        table.add("Via", _stamped(request, vias[0], source))
        for line in vias[1:]:
            table.add("Via", line)
    table.take_over(request.headers, *MIRRORED)
    if to_tag and not _has_tag(request):
        table.set("To", f"{request.headers.get('To')};tag={to_tag}")
    for name, value in headers:
        table.add(name, value)
    if content_type:
        table.add("Content-Type", content_type)
    return Response(status, reason, table, body)


def ack_for_refusal(invite: Request, response: Response) -> Request:
    """The ACK of the INVITE transaction for 300-699 (RFC 3261 17.1.1.3)."""
    ack = _sibling(invite, "ACK")
    ack.headers.set("To", response.headers.get("To"))
    return ack


def reason(status: int, text: str) -> tuple[tuple[str, str], ...]:
    """Why a call is ended, for a BYE (RFC 3326): the status that an INVITE would have got for it."""
    said = text.encode("ascii", "replace").decode("ascii").replace('"', "'").replace("\\", "/")
    return (("Reason", f'SIP;cause={status};text="{said[:120]}"'),)


def cancel_of(invite: Request) -> Request:
    """The CANCEL of an INVITE that we sent (RFC 3261 9.1)."""
    return _sibling(invite, "CANCEL")


def _sibling(invite: Request, method: str) -> Request:
    headers = Headers()
    headers.add("Via", invite.headers.get("Via"))
    for name in ("From", "To", "Call-ID"):
        headers.add(name, invite.headers.get(name))
    headers.add("CSeq", f"{invite.cseq.number} {method}")
    headers.add("Max-Forwards", "70")
    for route in invite.headers.get_all("Route"):
        headers.add("Route", route)
    return Request(method, invite.uri_text, headers)


def _stamped(request: Request, line: str, source: Remote) -> str:
    """The first Via line with the true source in its first entry; left alone when it cannot be read."""
    try:
        top = str(request.via.received_from(source))
    except RemoteViolation:
        return line
    return ", ".join([top, *split_list(line)[1:]]) if "," in line else top


def _has_tag(request: Request) -> bool:
    try:
        return bool(request.to.tag)
    except RemoteViolation:
        return True
