"""What is known of one peer, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import msgspec

from tongshi.protocols.gb28181.profile import Profile, Quirk, for_edition
from tongshi.protocols.gb28181.version import Edition
from tongshi.protocols.gb28181.xml import Charset
from tongshi.protocols.sip.address import Transport

EDITIONS: Final = {edition.wire: edition for edition in Edition}
CHARSETS: Final[dict[str, Charset]] = {"gb18030": "gb18030", "gb2312": "gb2312", "utf-8": "utf-8"}
MEDIA_TRANSPORTS: Final = ("udp", "tcp-passive", "tcp-active")


class Evidence(msgspec.Struct, frozen=True):
    """When and where a habit was seen first, what shows it, and how often since this process started."""

    at: datetime
    message: str
    detail: str = ""
    trace_id: str = ""
    count: int = 1


class Words(msgspec.Struct, frozen=True):
    """What an administrator says; empty leaves it to what was detected."""

    edition: str = ""
    charset: str = ""
    media_transport: str = ""
    quirks: dict[str, bool] = {}


@dataclass(frozen=True, slots=True)
class PeerProfile:
    """One peer.

    Attributes:
        said_edition: X-GB-Ver as said, "" when it was not. edition: what it speaks, inferred if need be.
        charset: what its texts show, "" as long as they show nothing. transport: of its signalling.
        seen: evidence by value of ``habits.Habit`` or ``profile.Quirk``.
        words: an administrator's; ``before`` those before the last change, None with nothing to undo.
    """

    peer_id: str
    user_agent: str = ""
    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    said_edition: str = ""
    edition: str = ""
    charset: str = ""
    transport: Transport = "udp"
    seen: dict[str, Evidence] = field(default_factory=dict)
    words: Words = field(default_factory=Words)
    set_by: str = ""
    set_reason: str = ""
    set_at: datetime | None = None
    before: Words | None = None

    def effective(self) -> Profile:
        """What we go by: an administrator's word, else what was seen, else what the edition implies."""
        edition = EDITIONS.get(self.words.edition or self.edition, Edition.GB2016)
        base = for_edition(edition, self.transport)
        quirks = {quirk for quirk in Quirk if self.words.quirks.get(quirk.value, quirk.value in self.seen)}
        charset = CHARSETS.get(self.words.charset)
        if charset is not None:
            quirks.add(Quirk.FORCED_CHARSET)
        shown = CHARSETS.get(self.charset) if self.charset == "utf-8" else None
        return Profile(
            edition=edition,
            charset=charset or shown or base.charset,
            transport=self.transport,
            quirks=frozenset(quirks),
        )

    def told(self, words: Words, by: str, reason: str, at: datetime) -> PeerProfile:
        """With an administrator's words."""
        return replace(self, words=words, before=self.words, set_by=by, set_reason=reason, set_at=at)


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer in a list. Times are of the registration; None when it is not registered."""

    profile: PeerProfile
    name: str
    is_platform: bool
    is_online: bool
    host: str = ""
    port: int = 0
    registered_at: datetime | None = None
    expires_at: datetime | None = None
    last_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UpperRow:
    """One platform that we register with."""

    platform_id: str
    host: str
    port: int
    transport: str
    is_registered: bool
    since: datetime | None
    last_heard_at: datetime | None
    reason: str
    edition: str
