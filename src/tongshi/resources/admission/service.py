"""What an administrator sees of refusals, and the word that ends one: lift a ban, confirm a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.deeds import deed
from tongshi.audit.tags import AuditTag
from tongshi.errors import NotFound
from tongshi.resources.admission.model import Ban, Fingerprint, Standing, Stranger
from tongshi.sharing.model import Context, Subject
from tongshi.storage.engine import Database

T = TypeVar("T")


class Gatekeeper(Protocol):
    """The signalling gateway as this feature needs it."""

    def bans(self) -> Sequence[Ban]:
        """Bans that have not ended, the latest first."""
        ...

    def strangers(self) -> Sequence[Stranger]:
        """Who was refused without being banned for it, the latest first."""
        ...

    def lift(self, subject: str) -> None:
        """End a ban."""
        ...

    def confirmed(self, fingerprint: Fingerprint) -> None:
        """This fingerprint is trusted now."""
        ...


class AdmissionStore(Protocol):
    """The rows this service works on; ``store`` is one."""

    def remove_ban(self, conn: Connection, subject: str, /) -> bool: ...

    def get_fingerprint(self, conn: Connection, code: str, /) -> Fingerprint | None: ...

    def put_fingerprints(self, conn: Connection, fingerprints: Sequence[Fingerprint], /) -> None: ...

    def page_fingerprints(
        self, conn: Connection, standing: Standing | None, page_no: int, page_size: int, /
    ) -> tuple[list[Fingerprint], int]: ...


class AdmissionDesk:
    """Bans, strangers and fingerprints for those who administer the platform."""

    def __init__(self, db: Database, store: AdmissionStore, gatekeeper: Gatekeeper) -> None:
        self._db = db
        self._store = store
        self._gatekeeper = gatekeeper

    def bans(self, page_no: int, page_size: int) -> tuple[list[Ban], int]:
        """One page of the running bans, and how many there are."""
        return _page(self._gatekeeper.bans(), page_no, page_size)

    def strangers(self, page_no: int, page_size: int) -> tuple[list[Stranger], int]:
        """One page of who was refused, and how many sources are remembered."""
        return _page(self._gatekeeper.strangers(), page_no, page_size)

    async def fingerprints(
        self, standing: Standing | None, page_no: int, page_size: int
    ) -> tuple[list[Fingerprint], int]:
        """One page of fingerprints, and how many there are."""
        return await self._db.read(self._store.page_fingerprints, standing, page_no, page_size)

    async def lift(self, caller: Subject, subject: str, context: Context) -> None:
        """End a ban before its time. Raises NotFound when there is none."""
        if all(ban.subject != subject for ban in self._gatekeeper.bans()):
            raise NotFound("没有这项封禁")
        await self._db.write(self._lift, caller, subject, context)
        self._gatekeeper.lift(subject)

    async def confirm(self, caller: Subject, code: str, context: Context) -> Fingerprint:
        """Trust what a device says of itself now. Raises NotFound when nothing waits."""
        now = await self._db.write(self._confirm, caller, code, context)
        self._gatekeeper.confirmed(now)
        return now

    def _lift(self, conn: Connection, caller: Subject, subject: str, context: Context) -> None:
        self._store.remove_ban(conn, subject)
        audit.append(conn, deed(caller, context, AuditTag.PEER_BAN_LIFT, "address", subject, {}))

    def _confirm(self, conn: Connection, caller: Subject, code: str, context: Context) -> Fingerprint:
        known = self._store.get_fingerprint(conn, code)
        if known is None or not known.changed:
            raise NotFound("没有等待确认的设备特征变化")
        now = Fingerprint(code, {**known.traits, **known.changed}, known.first_at, context.at)
        self._store.put_fingerprints(conn, [now])
        details: dict[str, object] = {
            name: [known.traits.get(name, ""), value] for name, value in known.changed.items()
        }
        audit.append(conn, deed(caller, context, AuditTag.FINGERPRINT_CONFIRM, "device", code, details))
        return now


def _page(rows: Sequence[T], page_no: int, page_size: int) -> tuple[list[T], int]:
    first = (page_no - 1) * page_size
    return list(rows[first : first + page_size]), len(rows)
