"""What goes between a platform and a media node of its own in another process.

The platform calls, always: ``POST /media/v3/{verb}`` with a JSON body, signed as between platforms, the
node's name as audience and the platform's own process (its *owner* word) as ``X-Tongshi-OnBehalf``. What the
node has to tell or to ask comes as the answer to ``news``, which waits. So a node needs no way to the
platform but the answers, and a platform no listener more.

| verb | does |
|---|---|
| look | says how it is; takes over for the owner, ending all that an owner before it had |
| news | waits for what happened to streams, viewers and relays, and for questions |
| reply | answers a question: may this viewer see |
| open, announce, expect, connect, close | one receiving end |
| figures, pictures | what arrived; the last group of pictures |
| relay, drop | send to another platform |
| detach | end one viewer |
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tongshi.resources.viewing.media_ports import IngestFigures, Promise
from tongshi.resources.viewing.model import Transport

VERSION = 3  # one more with every change of what stands here, so that two makings do not misread each other
PREFIX = f"/media/v{VERSION}/"
MAX_CALL_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a cached group of pictures is at most 8 MiB, a third more as base64
MAX_NEWS = 10_000  # unread; a platform that reads nothing for so long has lost its place
MAX_NEWS_AN_ANSWER = 500
NEWS_WAIT_S = 10.0


class NewsKind(StrEnum):
    """What a node tells."""

    FIRST_PACKET = "firstPacket"
    FIRST_KEY_FRAME = "firstKeyFrame"
    ENDED = "ended"
    ASK = "ask"  # a viewer is at the door: ``id`` is his number from here on
    CHECK = "check"  # may this ticket be taken: an RTSP client asks about the picture before he plays it
    LEFT = "left"
    RETURNED = "returned"  # he could not be served so, and may try another way: ``text`` says why
    SENT = "sent"  # a lasting viewer (HLS) was answered with ``size`` bytes
    RELAY_CLOSED = "relayClosed"
    KEY_FRAME = "keyFrame"  # a viewer needs one: ``text`` says why


class _Word(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Both ends are of one making: what is not known is a mistake."""


class Empty(_Word, frozen=True):
    """Nothing."""


class Looked(_Word, frozen=True):
    """How a node is: ``boot`` names its present life, which ends when it drops everything.

    ``trouble``: what its operator should mend although it works, in words.
    """

    boot: str
    load: float
    streams: list[str]
    trouble: str = ""


class NewsCall(_Word, frozen=True):
    """What happened behind ``after``, in this life."""

    boot: str
    after: int


class News(_Word, frozen=True):
    """One thing that happened; numbers have no gaps. The last five are of a question or a viewer."""

    number: int
    kind: NewsKind
    stream: str
    id: int = 0
    text: str = ""
    size: int = 0
    ticket: str = ""
    client: str = ""
    is_lasting: bool = False
    container: str = ""


class NewsList(_Word, frozen=True):
    """At most ``MAX_NEWS_AN_ANSWER``; none when nothing happened while it waited."""

    news: list[News]


class Reply(_Word, frozen=True):
    """The answer to question ``id``: let in, or refused with an HTTP status, a number and words.

    Who is let in to the sound alone is served that and no picture. ``is_over``: the stream has ended in
    order, and a lasting viewer fetches what is left of it.
    """

    id: int
    status: int = 0
    code: int = 0
    message: str = ""
    is_sound_alone: bool = False
    is_over: bool = False


class Opened(_Word, frozen=True):
    port: int


class OpenCall(_Word, frozen=True):
    """``is_local``: on a port of its own, also where others share one."""

    stream: str
    transport: Transport
    is_local: bool


class ExpectCall(_Word, frozen=True):
    stream: str
    promise: Promise


class AnnounceCall(_Word, frozen=True):
    stream: str
    ssrc: int


class ConnectCall(_Word, frozen=True):
    stream: str
    host: str
    port: int


class StreamCall(_Word, frozen=True):
    """``close``, ``figures`` and ``pictures``."""

    stream: str


class Figures(_Word, frozen=True):
    figures: IngestFigures


class Pictures(_Word, frozen=True):
    """Annex B bytes, base64 on the wire."""

    data: bytes


class RelayCall(_Word, frozen=True):
    """The platform chooses the number, so that the news of its end cannot come before it."""

    stream: str
    relay: int
    transport: Transport
    host: str
    port: int
    ssrc: int


class DropCall(_Word, frozen=True):
    stream: str
    relay: int


class DetachCall(_Word, frozen=True):
    stream: str
    viewer: int


class Detached(_Word, frozen=True):
    """Bytes the viewer got."""

    sent: int


class Refusal(_Word, frozen=True):
    """Why a call failed, beside the HTTP status."""

    code: int
    message: str
