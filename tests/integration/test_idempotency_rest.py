"""Kept answers in both databases: across processes and restarts, bounded, and recorded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx2
import msgspec
import pytest

from tongshi.audit import store as audit
from tongshi.clock import ManualClock
from tongshi.exchange.signing import Signer
from tongshi.resources.platforms.model import Relation
from tongshi.sharing import answer_store
from tongshi.sharing.answers import KeptAnswers
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform
from tongshi.web.ports import Claim, Claimed, Kept

HOME, ABROAD = "31010400002000000001", "31010600002000000001"


def claim(clock: ManualClock, number: int = 1) -> Claim:
    at = clock.at() + timedelta(milliseconds=number)
    return Claim(number.to_bytes(32), "api_key:a", b"q" * 32, at, at + timedelta(hours=24))


async def test_of_two_processes_one_runs_and_the_other_reads_its_answer(database: Database) -> None:
    clock, other = ManualClock(), await Database.open(database.url, migrate=False)
    try:
        ours, theirs = KeptAnswers(database), KeptAnswers(other)
        held = await asyncio.gather(*(one.claim(claim(clock)) for one in (ours, theirs, ours, theirs)))
        assert sorted(one is None for one in held) == [False, False, False, True]
        running = Claimed(b"q" * 32, claim(clock).at, None)
        assert [one for one in held if one is not None] == [running] * 3
        kept = Kept(201, 0, {"content-type": "application/json"}, b'{"a":"\xe5\xb8\x82"}', 7)
        await theirs.keep(claim(clock), kept, claim(clock).until)
        assert await ours.claim(claim(clock)) == replace(running, kept=kept)
    finally:
        await other.close()


async def test_a_dropped_claim_is_free_and_an_expired_one_too(database: Database) -> None:
    clock, answers = ManualClock(), KeptAnswers(database)
    assert await answers.claim(claim(clock)) is None
    await answers.drop(claim(clock))
    assert await answers.claim(claim(clock)) is None
    clock.advance(24 * 3600)
    assert await answers.claim(claim(clock)) is None
    # Who held it before may not write over who holds it now.
    late = claim(ManualClock())
    await answers.keep(late, Kept(200, 0, {}, b"old"), late.until)
    held = await answers.claim(claim(clock))
    assert held is not None
    assert held.kept is None


async def test_a_caller_keeps_so_many_and_what_expired_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "MAX_OF_A_CALLER", 3)
    clock, answers = ManualClock(), KeptAnswers(database)
    for number in range(1, 7):
        assert await answers.claim(claim(clock, number)) is None
        await answers.keep(claim(clock, number), Kept(200, 0, {}, b"%d" % number), claim(clock).until)
    assert await answers.claim(claim(clock, 6)) is not None
    assert await answers.claim(claim(clock, 1)) is None
    at = clock.at() + timedelta(hours=25)
    gone = [await database.write(answer_store.forget, at, 3) for _ in range(3)]
    assert gone == [3, 1, 0]


async def test_a_signed_call_repeated_after_a_restart_gets_the_first_answer_and_is_recorded(
    database: Database,
) -> None:
    clock = ManualClock()
    bodies = []
    for _ in range(2):
        platform = await RestPlatform.open(HOME, database, clock)
        permissions = {Permission.PLAN_READ, Permission.PLAN_WRITE}
        await platform.admit(ABROAD, Relation.LATERAL, "s" * 32, permissions)
        answer = await _save(platform, clock, {"CatalogName": "银行/防汛"})
        bodies.append((answer.status_code, answer.content, answer.headers.get("idempotency-replayed")))
        clock.advance(1)
    assert bodies[0][0] == 200, bodies[0]
    assert bodies == [(*bodies[0][:2], None), (*bodies[0][:2], "true")]
    other = await _save(platform, clock, {"CatalogName": "银行/防台"})
    assert (other.status_code, other.json()["code"]) == (409, 40905)
    records, _ = await database.read(audit.page, 1, 50)
    replayed = [record.entry for record in records if record.entry.details.get("isReplayed")]
    assert [entry.details["operation"] for entry in replayed] == ["savePlanCatalog"]


async def _save(platform: RestPlatform, clock: ManualClock, body: dict[str, str]) -> httpx2.Response:
    path, sent = "/api/v1/plans/catalogs", msgspec.json.encode(body)
    signer = Signer(f"key-{ABROAD}", "s" * 32, HOME, clock)
    headers = {
        **signer.headers("POST", path, "", sent),
        "Content-Type": "application/json",
        "Idempotency-Key": "4c1f-1",
    }
    async with platform.http() as client:
        return await client.post(path, content=sent, headers=headers)
