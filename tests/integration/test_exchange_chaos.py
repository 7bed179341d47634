"""A bounded share of the random histories; ``tongshi chaos exchange`` runs thousands."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select

from tongshi.exchange import inbox
from tongshi.resources.devices import store as devices
from tongshi.resources.devices.model import digested
from tongshi.storage.schema import device_archive
from tongshi.testing.chaos.journal import Record
from tongshi.testing.chaos.one import Plan
from tongshi.testing.chaos.run import add_arguments, run_cli, run_some

HISTORIES = 24
SEED = 20241


def injected(records: list[Record]) -> Counter[str]:
    return Counter(event.what for record in records for event in record.injected)


def ends(records: list[Record]) -> set[str]:
    return {record.ended for record in records}


def test_random_histories_on_sqlite_end_equal() -> None:
    records = run_some(Plan(SEED, "sqlite", "", 0), range(HISTORIES))
    assert ends(records) == {"equal"}
    met = injected(records)
    for what in ("killed", "revived", "database away", "disk full", "request lost", "doubled", "cut"):
        assert met[what] > 0, f"no history met: {what}"


async def test_some_random_histories_on_postgresql_end_equal(postgres_server: str) -> None:
    plan = Plan(SEED, "postgresql", postgres_server, 0)
    records = await asyncio.to_thread(run_some, plan, range(6))
    assert ends(records) == {"equal"}
    assert injected(records)["killed"] > 0


def test_platforms_of_their_own_processes_that_are_killed_end_equal_on_sqlite() -> None:
    records = run_some(Plan(SEED, "sqlite", "", 3), range(3))
    assert ends(records) == {"equal"}
    assert {record.form for record in records} == {"processes"}
    met = injected(records)
    assert met["killed"] == met["started again"] > 0


@pytest.mark.timeout(300)
async def test_platforms_of_their_own_processes_that_are_killed_end_equal_on_postgresql(
    postgres_server: str,
) -> None:
    plan = Plan(SEED, "postgresql", postgres_server, 1)
    records = await asyncio.to_thread(run_some, plan, range(1))
    assert ends(records) == {"equal"}
    assert injected(records).total() > 0


def test_a_history_can_be_replayed_alone() -> None:
    plan = Plan(SEED, "sqlite", "", 0)
    (alone,) = run_some(plan, [4])
    among = run_some(plan, range(3, 6))[1]
    assert alone.injected == among.injected
    assert "--seed 20241 --history 4" in alone.replay


def _believes_every_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "_is_equal", lambda *_: True)


def _deletes_on_an_incomplete_full(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = inbox.apply_page

    def hasty(conn: Connection, house: Any, sender: str, page: Any, items: Any, at: datetime) -> Any:
        told = honest(conn, house, sender, page, items, at)
        # A page is taken for the whole.
        a = device_archive.c
        named = {archive.device_id for _, archive in items.archives}
        held = conn.execute(select(a.device_id).where(a.owner_platform == sender)).scalars().all()
        devices.mark_missing(conn, sender, [key for key in held if key not in named], at, sender)
        return told

    monkeypatch.setattr(inbox, "apply_page", hasty)


def _moves_past_what_it_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = inbox._take

    def careless(conn: Connection, house: Any, sender: str, items: Any, at: datetime, **how: Any) -> Any:
        del items.archives[-1:]
        return honest(conn, house, sender, items, at, **how)

    monkeypatch.setattr(inbox, "_take", careless)


def _forgets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = inbox._take

    def deaf(conn: Connection, house: Any, sender: str, items: Any, at: datetime, **how: Any) -> Any:
        items.archives[:] = [
            (index, msgspec.structs.replace(a, line=digested("", (a.device_id, "无名", *a.values[2:]))[0]))
            for index, a in items.archives
        ]
        return honest(conn, house, sender, items, at, **how)

    monkeypatch.setattr(inbox, "_take", deaf)


@pytest.mark.parametrize(
    ("breaks", "kinds"),
    [
        (_believes_every_proof, {"missing", "different"}),
        (_deletes_on_an_incomplete_full, {"wrongly deleted"}),
        (_moves_past_what_it_stored, {"missing"}),
        (_forgets_a_name, {"different"}),
    ],
)
def test_a_broken_receiver_is_caught(
    breaks: Callable[[pytest.MonkeyPatch], None], kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch)
    found = Counter[str]()
    for first in range(0, 40, 5):
        for record in run_some(Plan(SEED, "sqlite", "", 0), range(first, first + 5)):
            found.update(record.found)
            assert (record.ended == "equal") is (not record.found)
        if kinds & found.keys():
            return
    pytest.fail(f"never noticed; found {found}")


def test_the_command_logs_each_history_and_says_how_all_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    log = tmp_path / "log.jsonl"
    words = ["--histories", "4", "--processes", "0", "--jobs", "1", "--log", str(log)]
    assert run_cli(parser.parse_args(words)) == 0
    assert capsys.readouterr().out.rstrip().endswith("0 wrongly deleted, 0 missing, 0 different")
    records = [msgspec.json.decode(line, type=Record) for line in log.read_bytes().splitlines()]
    assert [record.history for record in records] == [0, 1, 2, 3]
    assert all(event.at >= 0 and event.what for record in records for event in record.injected)
