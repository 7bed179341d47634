"""Peers for a caller, and an administrator's words about them: recorded, undoable, applied at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, InvalidRequest, NotFound
from tongshi.resources.peers.model import (
    CHARSETS,
    EDITIONS,
    MEDIA_TRANSPORTS,
    PeerProfile,
    PeerRow,
    UpperRow,
    Words,
)
from tongshi.resources.peers.words import QUIRKS
from tongshi.sharing.model import EVERYTHING, Context, Scope, Subject
from tongshi.storage.engine import Database


class PeerStore(Protocol):
    """The rows this service works on; ``store`` is one."""

    def put_words(self, conn: Connection, one: PeerProfile, at: datetime, /) -> None: ...

    def page(
        self,
        conn: Connection,
        scope: Scope,
        keyword: str,
        online: bool | None,
        page_no: int,
        page_size: int,
        /,
    ) -> tuple[list[PeerRow], int]: ...

    def find(self, conn: Connection, scope: Scope, peer_id: str, /) -> PeerRow | None: ...


class Live(Protocol):
    """What signalling knows that the record does not yet, and where a change takes effect."""

    def current(self, stored: PeerProfile, /) -> PeerProfile:
        """The profile with what was seen since it was written."""
        ...

    def apply(self, profile: PeerProfile, /) -> None:
        """Go by it from now on."""
        ...

    def uppers(self) -> Sequence[UpperRow]:
        """The platforms that we register with."""
        ...


class Devices(Protocol):
    """The archive: which of these devices lie in a scope."""

    async def get_many(self, device_ids: Sequence[str], scope: Scope, /) -> Mapping[str, object]: ...


class SignallingPeers:
    """Devices and platforms that register with us, and platforms that we register with."""

    def __init__(self, db: Database, store: PeerStore, live: Live) -> None:
        self._db = db
        self._store = store
        self._live = live

    async def page(
        self, scope: Scope, keyword: str, online: bool | None, page_no: int, page_size: int
    ) -> tuple[list[PeerRow], int]:
        """One page of the peers that the caller may see, and how many there are."""
        return await self._db.read(self._store.page, scope, keyword, online, page_no, page_size)

    async def get(self, scope: Scope, peer_id: str) -> tuple[PeerRow, PeerProfile]:
        """One peer with all that is known of it now. Raises NotFound."""
        row = await self._db.read(self._store.find, scope, peer_id)
        if row is None:
            raise NotFound("没有这个信令对端")
        return row, self._live.current(row.profile)

    async def leading(self, peer_id: str) -> PeerRow | None:
        """The peer that leads to a device which the caller may see, whoever it is."""
        return await self._db.read(self._store.find, EVERYTHING, peer_id)

    async def tell(
        self, by: Subject, scope: Scope, peer_id: str, words: Words, reason: str, context: Context
    ) -> None:
        """Say how to deal with a peer. Raises NotFound, InvalidRequest."""
        _check(words)
        _, profile = await self.get(scope, peer_id)
        new = profile.told(words, by.name, reason, context.at)
        await self._db.write(self._write, by, new, "set", context)
        self._live.apply(new)

    async def undo(self, by: Subject, scope: Scope, peer_id: str, reason: str, context: Context) -> None:
        """Take the last words back; a second time takes that back. Raises NotFound, Conflict."""
        _, profile = await self.get(scope, peer_id)
        if profile.before is None:
            raise Conflict("没有可以撤销的修改")
        new = profile.told(profile.before, by.name, reason, context.at)
        await self._db.write(self._write, by, new, "undo", context)
        self._live.apply(new)

    def uppers(self) -> Sequence[UpperRow]:
        """The platforms that we register with."""
        return self._live.uppers()

    def _write(self, conn: Connection, by: Subject, new: PeerProfile, did: str, context: Context) -> None:
        self._store.put_words(conn, new, context.at)
        words = new.words
        audit.append(
            conn,
            deed(
                by,
                context,
                AuditTag.SIGNALLING_CHANGE,
                "peer",
                new.peer_id,
                {
                    "did": did,
                    "reason": new.set_reason,
                    "edition": words.edition,
                    "charset": words.charset,
                    "mediaTransport": words.media_transport,
                    "quirks": dict(words.quirks),
                },
            ),
        )


def _check(words: Words) -> None:
    """Raises InvalidRequest for a word we do not know."""
    if words.edition and words.edition not in EDITIONS:
        raise InvalidRequest(f"版本应为 {'、'.join(EDITIONS)}", field="edition")
    if words.charset and words.charset not in CHARSETS:
        raise InvalidRequest(f"字符集应为 {'、'.join(CHARSETS)}", field="charset")
    if words.media_transport and words.media_transport not in MEDIA_TRANSPORTS:
        raise InvalidRequest(f"媒体传输方式应为 {'、'.join(MEDIA_TRANSPORTS)}", field="mediaTransport")
    for name in words.quirks:
        if name not in QUIRKS or not QUIRKS[name].acts:
            raise InvalidRequest(f"没有可以设置的习惯 {name[:32]}", field="quirks")
