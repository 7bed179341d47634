"""What signalling needs of the record: accounts, registrations, archives; and of viewing: to be told of
losses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.protocols.media.g711 import Law
from tongshi.resources.admission.model import Ban, Fingerprint
from tongshi.resources.peers.model import PeerProfile
from tongshi.resources.registrations.model import CatalogueStanding, OpenCall
from tongshi.resources.viewing.model import Transport


@dataclass(frozen=True, slots=True)
class Account:
    """What a peer signs in with; a lower platform's account makes it a platform."""

    username: str
    secret: str
    is_platform: bool = False


@dataclass(frozen=True, slots=True)
class StoredRegistration:
    """A registration as it survives a restart."""

    peer_id: str
    host: str
    port: int
    transport: str
    contact: str
    call_id: str
    user_agent: str
    edition: str
    registered_at: datetime
    expires_at: datetime
    last_seen_at: datetime
    is_platform: bool = False


class Registrations(Protocol):
    """Accounts and registrations in the record."""

    async def account(self, peer_id: str, username: str) -> Account | None:
        """The secret for this identity and user name; None when nobody may register so."""
        ...

    async def put(self, registration: StoredRegistration, *, is_refresh: bool) -> None:
        """Record a registration, and unless it only refreshes one, that the device is online."""
        ...

    async def remove(self, peer_id: str, channel_ids: Sequence[str], at: datetime, reason: str) -> None:
        """Record that a peer is gone: a device and its channels are offline, a platform's devices unknown."""
        ...

    async def heard(self, seen: Mapping[str, datetime]) -> None:
        """Record signs of life, many at once."""
        ...

    async def stored(self, at: datetime) -> Sequence[StoredRegistration]:
        """Those that have not expired."""
        ...


class OpenCalls(Protocol):
    """Running calls in the record, so that the next process can end what this one leaves."""

    async def note_calls(self, opened: Sequence[OpenCall], ended: Sequence[str]) -> None:
        """Record calls that were opened and forget those that ended, by Call-ID."""
        ...

    async def left_open(self, since: datetime) -> Sequence[OpenCall]:
        """Calls opened since then that nobody ended; older ones are forgotten."""
        ...


class ProfileRecord(Protocol):
    """Profiles of peers in the record."""

    async def put_profiles(self, profiles: Sequence[PeerProfile]) -> None:
        """Keep what was seen of peers; an administrator's words stay as they are."""
        ...

    async def profiles_after(self, peer_id: str) -> Sequence[PeerProfile]:
        """The next in order of peer; none when there are no more."""
        ...


class Admissions(Protocol):
    """Bans and fingerprints in the record."""

    async def admissions(self, at: datetime) -> tuple[Sequence[Ban], Sequence[Fingerprint]]:
        """What is in force at that time."""
        ...

    async def note_admissions(self, bans: Sequence[Ban], fingerprints: Sequence[Fingerprint]) -> None:
        """Record what is new, bans with their audit record."""
        ...


class StandingRecord(Protocol):
    """How the catalogues of peers stood when they last ended, in the record."""

    async def put_standings(self, standings: Sequence[CatalogueStanding]) -> None:
        """Keep these, each in place of the peer's last one."""
        ...

    async def standings(self, since: datetime, limit: int) -> Sequence[CatalogueStanding]:
        """Those last changed since then, the oldest first; older ones are forgotten."""
        ...


class Record(Registrations, OpenCalls, ProfileRecord, StandingRecord, Admissions, Protocol):
    """What of signalling survives a restart."""


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """A device as answers upward need it; ``via`` are the peers it can be reached by, best first."""

    device_id: str
    name: str = ""
    manufacturer: str = ""
    model: str = ""
    online: bool | None = None
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which devices a catalogue query of an upper asks for; without any word all.

    Attributes:
        division: those that lie in it.
        below: those that are one of these or name one as their parent.
        since, until: those changed since, those not known to be newer.
    """

    division: str = ""
    below: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None


class Archive(Protocol):
    """Archives in the record."""

    async def merge_catalogue(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        """Take what a peer told of itself and below. Nothing is deleted."""
        ...

    async def merge_nodes(self, peer_id: str, items: Sequence[CatalogItem], *, is_platform: bool) -> None:
        """Take the divisions, systems, groups and organisations that a peer told. Nothing is deleted."""
        ...

    async def note_status(self, online: dict[str, bool], source: str, reason: str) -> None:
        """Take what a peer says of the state of devices."""
        ...

    async def find(self, device_id: str) -> DeviceSummary | None: ...

    async def find_shared(self, upper_id: str, device_id: str) -> DeviceSummary | None:
        """The device, when this upper platform may see it."""
        ...

    async def shared_codes(self, upper_id: str, wanted: Wanted) -> tuple[tuple[str, ...], bool]:
        """Codes of devices that an upper platform may see, in order; whether any matched but for the time."""
        ...

    async def shared_items(self, upper_id: str, codes: Sequence[str]) -> Sequence[CatalogItem]:
        """Those of the codes that it may still see, with status, in the order of the codes."""
        ...

    async def shared_nodes(self, upper_id: str) -> Sequence[CatalogItem]:
        """Systems, divisions, groups and organisations above what it may see, each after its parent."""
        ...


class SoundOut(Protocol):
    """An open sender of sound toward one loudspeaker."""

    port: int
    ended: asyncio.Event

    def begin(self, host: str, port: int, *, payload_type: int, law: Law, ssrc: int) -> None:
        """Speak to this address from now on."""
        ...

    def feed(self, samples: bytes, law: Law) -> None: ...

    async def close(self) -> None:
        """Idempotent."""
        ...


class SoundIn(Protocol):
    """An open receiver of sound."""

    port: int

    def expect(self, ssrc: int | None, sender: str) -> None:
        """Take only this source from now on."""
        ...

    def close(self) -> None: ...


class SoundSockets(Protocol):
    """Ports for sound on one host."""

    host: str

    async def outlet(self, transport: Transport) -> SoundOut:
        """Raises Unavailable (50302)."""
        ...

    async def inlet(self, on_sound: Callable[[bytes, int], None]) -> SoundIn:
        """Raises Unavailable (50302)."""
        ...
