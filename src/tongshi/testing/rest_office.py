"""A platform with devices of two districts and keys of different rights, for tests over REST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.devices import store as devices
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME, ABROAD = "31010400002000000001", "31010600002000000001"
MINE = [f"31010400001310000{number:03d}" for number in range(1, 31)]
THEIRS = [f"31010600001310000{number:03d}" for number in range(1, 31)]
UNKNOWN = "31010400001319999999"
ADMIN = Subject(SubjectKind.USER, "0", "test")
PLANS = "/api/v1/plans"
SQUARE = "10304"  # the catalogue 公共场所/广场
RIGHTS = frozenset(
    {
        Permission.PLAN_READ,
        Permission.PLAN_WRITE,
        Permission.TAG_READ,
        Permission.TAG_WRITE,
        Permission.ARCHIVE_READ,
    }
)


@dataclass(repr=False)
class Office:
    """Keys: ann sees the devices of one district, bob those of the other, root all, nil none; bare may read
    the archive and was granted nothing."""

    platform: RestPlatform
    clock: ManualClock

    @classmethod
    async def open(cls, database: Database) -> Office:
        """Fill a fresh database."""
        clock = ManualClock()
        made = cls(await RestPlatform.open(HOME, database, clock), clock)
        for who in ("ann", "bob", "nil"):
            await made.admit(who, RIGHTS)
        await made.admit("root", frozenset(Permission))
        await made.admit("bare", frozenset({Permission.ARCHIVE_READ}))
        await made.grant("ann", ScopeKind.CIVIL_CODE, "310104")
        await made.grant("bob", ScopeKind.CIVIL_CODE, "310106")
        await made.grant("root", ScopeKind.ALL)
        for owner in (HOME, ABROAD):
            await database.write(devices.upsert_many, sample_archives(owner, 30), owner, clock.at())
        return made

    async def admit(self, who: str, rights: frozenset[Permission], platform: str = "") -> None:
        """Give somebody a key; its secret is made of the name."""
        await self.platform.grants.put_key(who, who, who * 16, rights, platform)

    async def grant(self, who: str, kind: ScopeKind, *values: str) -> None:
        """Let somebody read the archive of some devices."""
        actions = frozenset({Permission.ARCHIVE_READ})
        grant = Grant("", SubjectKind.API_KEY, who, actions, kind, frozenset(values))
        await self.platform.grants.give(ADMIN, grant, Context(self.clock.at()))

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> tuple[int, int, Any]:
        """HTTP status, code and data."""
        self.clock.advance(1)
        content = b"" if body is None else msgspec.json.encode(body)
        bare, _, query = path.partition("?")
        headers = Signer(who, who * 16, HOME, self.clock).headers(method, bare, query, content)
        async with self.platform.http() as client:
            kind = {"Content-Type": "application/json"} if content else {}
            answer = await client.request(method, path, content=content, headers={**headers, **kind})
        told = answer.json()
        return answer.status_code, told["code"], told["data"]

    async def data(self, who: str, method: str, path: str, body: Any = None) -> Any:
        """Data of a call that must succeed."""
        status, code, data = await self.ask(who, method, path, body)
        assert (status, code) == (200, 0), data
        return data

    async def plan(self, who: str, ids: Sequence[str], name: str = "保障", **more: Any) -> str:
        """Make a plan. Returns its code."""
        body = {"PlanName": name, "CatalogID": SQUARE, "DeviceIdList": list(ids), **more}
        code: str = (await self.data(who, "POST", f"{PLANS}/config", body))["PlanCode"]
        return code
