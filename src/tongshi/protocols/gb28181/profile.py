"""What we know of one peer: edition, charset, transport, and its habits by name.

Code asks the profile; it never asks who made the device. The numbers are those of the dossier's chapter 23.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from tongshi.protocols.gb28181.version import Edition
from tongshi.protocols.gb28181.xml import Charset
from tongshi.protocols.sip.address import Transport


class Quirk(Enum):
    """Habits that need another behaviour of ours; what a tolerant parser swallows has no name here."""

    FORCED_CHARSET = "forced-charset"  # 1: short Chinese text that is valid in both charsets
    FOREIGN_REALM = "foreign-realm"  # 18: its digest is made with another realm than ours
    NO_DATE_HEADER = "no-date-header"  # 22: the device sets a wrong clock from it
    RFC1123_DATE = "rfc1123-date"  # 22
    DUAL_HOMED = "dual-homed"  # 24: also speaks from other addresses than it registered from
    VENDOR_RTPMAPS = "vendor-rtpmaps"  # 37: refuses an offer without 125, 126, 99, 34
    STREAM_PROFILE_ATTRIBUTE = "stream-profile"  # 67: a=streamprofile:n selects the stream
    STREAM_ATTRIBUTE = "stream"  # 67: a=stream:n
    STREAM_MODE_ATTRIBUTE = "stream-mode"  # 67: a=streamMode:main or sub
    GUARD_BEFORE_ALARM = "guard-before-alarm"  # 61: no alarm without SetGuard
    SLOW_ANSWER = "slow-answer"  # 79: a call is answered after five to ten seconds


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Edition, charset, transport and quirks of a peer."""

    edition: Edition = Edition.GB2022
    charset: Charset = "gb18030"
    transport: Transport = "udp"
    quirks: frozenset[Quirk] = frozenset()

    @property
    def forced_charset(self) -> Charset | None:
        """The charset to decode with when the peer's own marks mislead, else None."""
        return self.charset if Quirk.FORCED_CHARSET in self.quirks else None

    def has(self, quirk: Quirk) -> bool:
        """Whether the peer has this habit."""
        return quirk in self.quirks


def for_edition(edition: Edition, transport: Transport = "udp") -> Profile:
    """The profile of a peer without known habits: GB2312 is declared up to 2.0, GB18030 after (1.6)."""
    charset: Charset = "gb18030" if edition >= Edition.GB2022 else "gb2312"
    return Profile(edition=edition, charset=charset, transport=transport)
