"""Which devices a query means, in which order, and where its next page begins.

Implements: DB31DSJ/Z 001-2024 E.1-6
Implements: DB31DSJ/Z 001-2024 E.1-7

A cursor carries the last row's place and a keyed digest over it and the whole question, asker included: it
cannot be made up, and it is worth nothing for another question. The key lives as long as the process, so
cursors do not survive a restart; the caller begins anew.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec
from sqlalchemy import ColumnElement, Connection

from tongshi.errors import InvalidRequest
from tongshi.resources.devices.search_terms import Needle
from tongshi.sharing.model import EVERYTHING, Scope

UNASSIGNED = "unassigned"
_MAC_BYTES = 16
Place = list[str | int]


class Sort(StrEnum):
    """Order of a list; the id decides among equals."""

    ID = "id"
    ID_DOWN = "-id"
    NAME = "name"
    NAME_DOWN = "-name"
    CIVIL_CODE = "civilCode"
    CIVIL_CODE_DOWN = "-civilCode"
    UPDATED = "updateTime"
    UPDATED_DOWN = "-updateTime"


class Narrowing(Protocol):
    """A condition on devices that another feature lends: members of a plan, bearers of tags."""

    def clause(self, conn: Connection, device_id: ColumnElement[str], /) -> ColumnElement[bool]:
        """The condition in SQL, on the column that holds the device's id."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What a query is narrowed by; an empty part narrows nothing, an empty ``scope`` or ``also`` everything.

    ``also`` is a second scope in which a device must lie: on what may be acted, or what another person sees.
    ``civil_codes`` are prefixes unless ``is_exact_civil_code``; ``UNASSIGNED`` stands for no usable code.
    ``proposed`` are the numbers that the index of words proposed for ``needle``, when they are few and known.
    """

    scope: Scope
    also: Scope = EVERYTHING
    civil_codes: tuple[str, ...] = ()
    is_exact_civil_code: bool = False
    online: bool | None = None
    point_classes: tuple[int, ...] = ()
    ptz_types: tuple[int, ...] = ()
    industries: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    owner: str = ""
    include_missing: bool = False
    needle: Needle | None = None
    proposed: tuple[int, ...] | None = None
    narrowings: tuple[Narrowing, ...] = ()


@dataclass(frozen=True, slots=True)
class Cursors:
    """Seals and opens cursors."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def seal(self, question: bytes, place: Place) -> str:
        """The cursor of a page that ended at ``place``."""
        body = msgspec.json.encode(place)
        return base64.urlsafe_b64encode(self._mac(question, body) + body).decode().rstrip("=")

    def open(self, question: bytes, cursor: str) -> Place:
        """The place in a cursor. Raises InvalidRequest when it is not ours or belongs to another question."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if hmac.compare_digest(mac, self._mac(question, body)):
                return msgspec.json.decode(body, type=Place)
        except ValueError:
            pass
        raise InvalidRequest("游标无效或与查询条件不符，请从第一页开始", field="cursor")

    def _mac(self, question: bytes, body: bytes) -> bytes:
        inner = hashlib.blake2b(question, digest_size=32).digest()
        return hashlib.blake2b(inner + body, key=self.key, digest_size=_MAC_BYTES).digest()
