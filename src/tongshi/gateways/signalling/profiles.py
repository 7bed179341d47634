"""What each peer was seen to do, and how we therefore deal with it.

Facts come from registrations (X-GB-Ver, User-Agent, transport) and messages (charset, habits); the first time
a habit shows is kept with its message and timeline. New facts are written a moment later, many at once, so
that a storm of registrations costs no more. An administrator's word goes before every fact and takes effect
on the registered peer at once.

"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog
from msgspec.structs import replace as changed

from tongshi.clock import Clock
from tongshi.errors import TongshiError
from tongshi.gateways.signalling.peers import Peers
from tongshi.gateways.signalling.ports import ProfileRecord
from tongshi.gateways.signalling.upward import Upper
from tongshi.protocols.gb28181.habits import Habit, charset_of, habits_of, speaks_2022
from tongshi.protocols.gb28181.profile import Profile, Quirk
from tongshi.protocols.gb28181.response import DeviceInfoResponse
from tongshi.protocols.gb28181.version import Edition, parse_version
from tongshi.protocols.sip.address import Transport
from tongshi.protocols.sip.message import Request
from tongshi.resources.peers.model import Evidence, PeerProfile, UpperRow

log = structlog.get_logger(__name__)

MAX_PROFILES: Final = 200_000
WRITE_AFTER_S: Final = 1.0
WRITE_AT_ONCE: Final = 2_000


class Profiles:
    """Profiles by peer. Fulfils ``peers.service.Live``.

    Args:
        trace_id: the timeline that the running task belongs to.
    """

    def __init__(
        self,
        record: ProfileRecord,
        peers: Peers,
        uppers: Callable[[], Sequence[Upper]],
        clock: Clock,
        trace_id: Callable[[], str],
    ) -> None:
        self._record = record
        self._peers = peers
        self._uppers = uppers
        self._clock = clock
        self._trace_id = trace_id
        self._known: OrderedDict[str, PeerProfile] = OrderedDict()
        self._unwritten: set[str] = set()
        # By upper platform, of which the configuration bounds the number.
        self._states: dict[str, tuple[bool, datetime, str]] = {}
        self._heard_at: dict[str, datetime] = {}
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Take up what was stored."""
        after = ""
        while len(self._known) < MAX_PROFILES and (page := await self._record.profiles_after(after)):
            after = page[-1].peer_id
            self._known.update((one.peer_id, one) for one in page)

    async def stop(self) -> None:
        """Write what is not written."""
        task, self._writing = self._writing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._write()

    def of(self, peer_id: str) -> PeerProfile:
        """What is known of a peer, whether it was ever heard of or not."""
        return self._known.get(peer_id) or PeerProfile(peer_id, edition=Edition.GB2016.wire)

    def effective(self, peer_id: str) -> Profile:
        """How to deal with a peer."""
        return self.of(peer_id).effective()

    def registered(self, peer_id: str, request: Request, transport: Transport, username: str) -> Profile:
        """A registration was accepted: take what it says. Returns how to deal with the peer."""
        old = self.of(peer_id)
        said = request.headers.get("X-GB-Ver")[:16]
        edition = parse_version(said).wire if said else old.edition
        agent = request.headers.get("User-Agent")[:128]
        new = replace(old, said_edition=said, edition=edition, user_agent=agent, transport=transport)
        self._put(old, new, is_new=peer_id not in self._known)
        if username != peer_id:
            self.see(peer_id, Habit.OTHER_USERNAME, f"username={username[:64]}", "REGISTER")
        for habit, detail in habits_of(request, peer_id):
            self.see(peer_id, habit, detail, "REGISTER")
        return self.of(peer_id).effective()

    def restored(self, peer_id: str, edition: str, user_agent: str, transport: Transport) -> Profile:
        """A registration from before this process; it may be older than the first profile."""
        old = self.of(peer_id)
        if peer_id not in self._known:
            parsed = parse_version(edition or None).wire
            new = replace(old, edition=parsed, user_agent=user_agent, transport=transport)
            self._put(old, new, is_new=True)
        return self.effective(peer_id)

    def heard(self, peer_id: str, request: Request) -> None:
        """A message of a registered peer."""
        what = _first_words(request)
        for habit, detail in habits_of(request, peer_id):
            self.see(peer_id, habit, detail, what)
        old, body = self.of(peer_id), request.body
        charset = charset_of(body) or old.charset
        edition = old.edition
        if not old.said_edition and edition != Edition.GB2022.wire and speaks_2022(body):
            edition = Edition.GB2022.wire
        if (charset, edition) != (old.charset, old.edition):
            self._put(old, replace(old, charset=charset, edition=edition))
            self.apply(self.of(peer_id))

    def see(self, peer_id: str, what: Habit | Quirk, detail: str, message: str) -> None:
        """A habit showed."""
        old = self.of(peer_id)
        before = old.seen.get(what.value)
        if before is not None:
            # Only a count: neither written nor applied anew.
            old.seen[what.value] = changed(before, count=before.count + 1)
            return
        evidence = Evidence(self._clock.at(), message[:128], detail[:200], self._trace_id())
        self._put(old, replace(old, seen={**old.seen, what.value: evidence}))
        log.info("peer_habit_seen", peer_id=peer_id, habit=what.value, detail=detail[:200])
        if isinstance(what, Quirk):
            self.apply(self.of(peer_id))

    def learn_info(self, peer_id: str, answer: DeviceInfoResponse) -> None:
        """A device told who made it."""
        if answer.device_id != peer_id:
            return
        old = self.of(peer_id)
        self._put(
            old,
            replace(
                old,
                manufacturer=answer.manufacturer[:128],
                model=answer.model[:128],
                firmware=answer.firmware[:128],
            ),
        )

    # What the feature asks (peers.service.Live).

    def current(self, stored: PeerProfile) -> PeerProfile:
        """The profile with what was seen since it was written."""
        return self._known.get(stored.peer_id, stored)

    def apply(self, profile: PeerProfile) -> None:
        """Go by it from now on."""
        self._known[profile.peer_id] = profile
        peer = self._peers.get(profile.peer_id)
        if peer is not None:
            peer.profile = profile.effective()
        for upper in self._uppers():
            if upper.id == profile.peer_id:
                upper.profile = profile.effective()

    def media_transport(self, peer_id: str) -> str:
        """How an administrator wants media from a peer; "" leaves it to the configuration."""
        return self.of(peer_id).words.media_transport

    def uppers(self) -> list[UpperRow]:
        """The platforms that we register with."""
        return [self._row(upper) for upper in self._uppers()]

    def upper_turned(self, upper: Upper, is_registered: bool, reason: str) -> None:
        """A registration of ours began or ended; what its server says of itself is a fact like any other."""
        state = self._states.get(upper.id)
        if state is None or state[0] != is_registered:
            self._states[upper.id] = (is_registered, self._clock.at(), reason)
        else:
            self._states[upper.id] = (is_registered, state[1], reason)
        if is_registered:
            self._heard_at[upper.id] = self._clock.at()
            said, old = upper.said_edition[:16], self.of(upper.id)
            new = replace(
                old, said_edition=said, edition=parse_version(said).wire, transport=upper.remote.transport
            )
            self._put(old, new, is_new=upper.id not in self._known)
            upper.profile = self.effective(upper.id)

    def upper_heard(self, upper: Upper) -> None:
        """It answered a heartbeat of ours."""
        self._heard_at[upper.id] = self._clock.at()

    def _row(self, upper: Upper) -> UpperRow:
        _, since, reason = self._states.get(upper.id, (False, None, ""))
        return UpperRow(
            platform_id=upper.id,
            host=upper.remote.host,
            port=upper.remote.port,
            transport=upper.remote.transport,
            is_registered=upper.is_registered,
            since=since,
            last_heard_at=self._heard_at.get(upper.id),
            reason=reason,
            edition=upper.profile.edition.wire,
        )

    def _put(self, old: PeerProfile, new: PeerProfile, *, is_new: bool = False) -> None:
        if new == old and not is_new:
            return
        self._known[new.peer_id] = new
        if len(self._known) > MAX_PROFILES:
            gone, _ = self._known.popitem(last=False)
            self._unwritten.discard(gone)
        self._unwritten.add(new.peer_id)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        await asyncio.sleep(WRITE_AFTER_S)
        self._writing = None
        await self._write()

    async def _write(self) -> None:
        while self._unwritten:
            batch = sorted(self._unwritten)[:WRITE_AT_ONCE]
            self._unwritten.difference_update(batch)
            try:
                await self._record.put_profiles([self._known[one] for one in batch if one in self._known])
            except TongshiError as error:
                log.warning("profiles_not_written", count=len(batch), error=error.message)


def _first_words(request: Request) -> str:
    """What a message is, shortly."""
    return f"{request.method} {request.headers.get('CSeq')[:24]}"
