"""Habits that show in a message: what a tolerant reader forgives, an operator still wants to know of.

The numbers are those of the dossier's chapter 23. Nothing here changes what we do; quirks that do are
``profile.Quirk``. Every pattern is linear, and reads at most ``MAX_BODY_BYTES`` of a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from tongshi.errors import RemoteViolation
from tongshi.protocols.sip.message import Request

MAX_BODY_BYTES: Final = 64 * 1024


class Habit(Enum):
    """What a peer was seen to do; the value is stored."""

    WRONG_CHARSET = "wrong-charset"  # 1
    CONTROL_CHARACTERS = "control-characters"  # 3
    BARE_AMPERSAND = "bare-ampersand"  # 4
    NO_SN = "no-sn"  # 7
    ODD_CIVIL_CODE = "odd-civil-code"  # 9
    ODD_PARENTAL = "odd-parental"  # 10
    ODD_STATUS = "odd-status"  # 11
    BARE_PTZ_TYPE = "bare-ptz-type"  # 12
    ODD_TIME = "odd-time"  # 13
    OTHER_USERNAME = "other-username"  # 15
    PORT_CHANGED = "port-changed"  # 23
    NO_CONTACT = "no-contact"  # 27
    NO_FROM_TAG = "no-from-tag"  # 28
    ODD_BRANCH = "odd-branch"  # 29
    OWN_SSRC = "own-ssrc"  # 38
    MANGLED_CASE = "mangled-case"  # 71
    OPAQUE_ID = "opaque-id"  # 77
    CHANNEL_IN_FROM = "channel-in-from"  # 78
    PRIVATE_MEDIA_ADDRESS = "private-media-address"  # 80


_DECLARED = re.compile(rb"""encoding\s{0,8}=\s{0,8}["']([A-Za-z0-9_-]{1,20})["']""", re.IGNORECASE)
_WIDE_UTF8 = re.compile(rb"[\xe0-\xf4][\x80-\xbf]{2}")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9xXA-Fa-f]{1,8});)[^;<]{0,12}")
_COMMAND = re.compile(rb"<(CmdType)>\s*([A-Za-z]{1,40})\s*<", re.IGNORECASE)
_SN = re.compile(rb"<SN>\s*0*[1-9][0-9]{0,9}\s*</SN>", re.IGNORECASE)
_ITEM: Final = (
    (Habit.ODD_CIVIL_CODE, re.compile(rb"<CivilCode>(?!(?:[0-9]{2}){1,4}<)([^<]{0,40})<", re.IGNORECASE)),
    (Habit.ODD_PARENTAL, re.compile(rb"<Parental>(?![01]<)([^<]{0,20})<", re.IGNORECASE)),
    (Habit.ODD_STATUS, re.compile(rb"<Status>(?!(?:ON|OFF|OK|ERROR)<)([^<]{0,20})<")),
    (Habit.OPAQUE_ID, re.compile(rb"<Item>\s*<DeviceID>(?![0-9]{2,20}<)([^<]{1,64})<", re.IGNORECASE)),
)
_INFO = re.compile(rb"<Info>.*?</Info>", re.IGNORECASE | re.DOTALL)
_PTZ_TYPE = re.compile(rb"<PTZType>([^<]{0,8})<", re.IGNORECASE)
_TIME = re.compile(
    rb"<((?:Start|End|Alarm|Device)?Time)>(?![0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}<)([^<]{1,40})<",
    re.IGNORECASE,
)
_LATE_COMMANDS: Final = frozenset(
    ("videouploadnotify", "uploadsnapshotfinished", "deviceupgraderesult", "ptzposition", "sdcardstatus",
     "homepositionquery", "cruisetracklistquery", "cruisetrackquery")
)  # fmt: skip
_COMMANDS: Final = {
    name.lower(): name
    for name in (
        "Catalog", "Keepalive", "Alarm", "MediaStatus", "MobilePosition", "DeviceInfo", "DeviceStatus",
        "RecordInfo", "ConfigDownload", "DeviceConfig", "DeviceControl", "PresetQuery", "Broadcast",
        "PTZPosition", "SDCardStatus", "HomePositionQuery", "CruiseTrackListQuery", "CruiseTrackQuery",
        "VideoUploadNotify", "UploadSnapShotFinished", "DeviceUpgradeResult",
    )
}  # fmt: skip


def habits_of(request: Request, peer_id: str) -> Iterator[tuple[Habit, str]]:
    """What shows in one request of a peer, each with the place that shows it."""
    yield from _in_headers(request, peer_id)
    body = request.body[:MAX_BODY_BYTES]
    if not body:
        return
    yield from _in_text(body)
    yield from _in_items(body)


def speaks_2022(body: bytes) -> bool:
    """Whether a body shows the 2022 edition, for peers that do not say which they speak (Annex I)."""
    declared = _DECLARED.search(body, 0, 200)
    if declared is not None and declared[1].lower() == b"gb18030":
        return True
    command = _COMMAND.search(body, 0, 1_024)
    return command is not None and command[2].decode().lower() in _LATE_COMMANDS


def charset_of(body: bytes) -> str:
    """The charset a body shows by its wide characters; "" when it shows none, or what both could hold."""
    if body.isascii():
        return ""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8" if _WIDE_UTF8.search(body) else ""


def _in_headers(request: Request, peer_id: str) -> Iterator[tuple[Habit, str]]:
    try:
        sender = request.from_
        if not sender.tag:
            yield Habit.NO_FROM_TAG, f"From: {sender}"
        if sender.uri.user != peer_id:
            yield Habit.CHANNEL_IN_FROM, f"From: {sender.uri.user}"
        branch = request.via.branch
        if not branch.startswith("z9hG4bK"):
            yield Habit.ODD_BRANCH, f"branch={branch}"
    except RemoteViolation:
        return
    if request.method in ("REGISTER", "SUBSCRIBE", "INVITE") and request.contact is None:
        yield Habit.NO_CONTACT, request.method


def _in_text(body: bytes) -> Iterator[tuple[Habit, str]]:
    declared, shown = _DECLARED.search(body, 0, 200), charset_of(body)
    if declared is not None and shown and len(body) < MAX_BODY_BYTES:
        said = declared[1].decode().lower()
        if (said in ("utf-8", "utf8")) is not (shown == "utf-8"):
            yield Habit.WRONG_CHARSET, f"encoding={said}，实际为 {shown}"
    if control := _CONTROL.search(body):
        yield Habit.CONTROL_CHARACTERS, f"0x{control[0][0]:02X}"
    if ampersand := _AMPERSAND.search(body):
        yield Habit.BARE_AMPERSAND, _text(ampersand[0])
    command = _COMMAND.search(body, 0, 1_024)
    if command is not None:
        name = command[2].decode()
        if _COMMANDS.get(name.lower(), name) != name or command[1] != b"CmdType":
            yield Habit.MANGLED_CASE, _text(command[0])
        if not _SN.search(body, 0, 2_048):
            yield Habit.NO_SN, name
    if odd := _TIME.search(body):
        yield Habit.ODD_TIME, _text(odd[0])


def _in_items(body: bytes) -> Iterator[tuple[Habit, str]]:
    if b"<Item" not in body:
        return
    for habit, pattern in _ITEM:
        if found := pattern.search(body):
            yield habit, _text(found[0])
    if (bare := _PTZ_TYPE.search(_INFO.sub(b"", body))) is not None:
        yield Habit.BARE_PTZ_TYPE, _text(bare[0])


def _text(found: bytes) -> str:
    return found.decode("gb18030", "replace").rstrip("<")[:80]
