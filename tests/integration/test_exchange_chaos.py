"""A bounded share of the random histories; ``tongshi chaos exchange`` runs thousands."""

from __future__ import annotations

import asyncio

import pytest

from tongshi.exchange import inbox
from tongshi.testing.chaos.run import run_some

HISTORIES = 60
SEED = 20241


def test_sixty_random_histories_on_sqlite_end_equal() -> None:
    told = run_some(SEED, range(HISTORIES))
    assert told.failures == {}
    for what in ("killed", "revived", "database away", "disk full", "request lost", "doubled", "cut"):
        assert told.injected[what] > 0, f"no history met: {what}"


async def test_some_random_histories_on_postgresql_end_equal(postgres_server: str) -> None:
    told = await asyncio.to_thread(run_some, SEED, range(6), postgres_server)
    assert told.failures == {}
    assert told.injected["killed"] > 0


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The histories themselves can fail: a receiver that believes every proof marks devices missing."""
    monkeypatch.setattr(inbox, "_is_equal", lambda *_: True)
    assert run_some(SEED, range(30)).failures
