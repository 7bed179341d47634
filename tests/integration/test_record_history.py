"""What a record was before, where its fields came from, and putting it back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from tongshi.app.housekeeping import Housekeeping
from tongshi.clock import ManualClock
from tongshi.errors import Conflict, Forbidden, Gone, InvalidRequest, NotFound
from tongshi.protocols.gb28181.types import CatalogItem
from tongshi.resources.devices import history_store, store
from tongshi.resources.devices.editing import Editing, Editor, Terms, Until, act_of
from tongshi.resources.devices.history_store import Difference, Entry
from tongshi.resources.devices.model import DeviceArchive, ExtendedAttributes, Source
from tongshi.resources.devices.provenance import by_person, origins_of, whole_of
from tongshi.resources.devices.service import DeviceArchives
from tongshi.resources.files import intake
from tongshi.resources.files.model import ReadRow
from tongshi.sharing.model import EVERYTHING, Context, Scope, Subject, SubjectKind
from tongshi.storage import changes
from tongshi.storage.engine import Database
from tongshi.storage.schema import audit, device_archive, device_history

SELF, LOWER, OTHER = "31000000002000000001", "31010400002000000001", "31010500002000000001"
CAMERA = "31010400001320000001"
ANY = Terms()
ADMIN = Subject(SubjectKind.USER, "1", "admin")


def told(name: str = "外滩", device_id: str = CAMERA, **fields: object) -> CatalogItem:
    return replace(CatalogItem(device_id=device_id, name=name, civil_code="310104"), **fields)


def row(name: str, revision: int, owner: str = LOWER, device_id: str = CAMERA) -> DeviceArchive:
    return DeviceArchive(item=told(name, device_id), owner=owner, revision=revision, source=Source.REST)


class Desk:
    """A platform's archive with a clock that is moved by hand."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = ManualClock()
        self.devices = DeviceArchives(db, store, self.clock, SELF)
        self.editing = Editing(db, self.clock, SELF)

    async def hear(self, item: CatalogItem) -> None:
        """A device of ours tells its catalogue, a second later than what was before."""
        self.clock.advance(1)
        await self.devices.merge_catalogue(CAMERA, [item], is_platform=False)

    async def edit(self, terms: Terms = ANY, scope: Scope = EVERYTHING, **fields: object) -> DeviceArchive:
        self.clock.advance(1)
        by = Editor(ADMIN, scope, Context(self.clock.at()))

        def want(held: DeviceArchive) -> DeviceArchive:
            return replace(held, item=replace(held.item, **fields))

        return (await self.editing.edit(by, CAMERA, want, terms)).archive

    async def undo(self, until: Until, terms: Terms = ANY) -> DeviceArchive:
        self.clock.advance(1)
        by = Editor(ADMIN, EVERYTHING, Context(self.clock.at()))
        return (await self.editing.undo(by, CAMERA, until, terms)).archive

    async def history(self, device_id: str = CAMERA) -> list[Entry]:
        return await self.editing.history(device_id)

    async def methods(self, *names: str) -> list[str]:
        origins = origins_of(await self.devices.get(CAMERA))
        return [origin.method.value if (origin := origins[name]) else "" for name in names]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


async def test_a_first_insert_writes_no_history_and_no_origins(desk: Desk) -> None:
    await desk.hear(told())
    await desk.devices.put([row("区", 1, device_id=CAMERA[:-1] + "2")], LOWER)
    kept = await desk.db.read(lambda c: list(c.execute(select(device_archive.c.origins)).scalars()))
    assert kept == [None, None]
    assert await desk.db.read(_count) == 0


def _count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(device_history)).scalar_one()


async def test_update_missing_and_return_are_each_one_row(desk: Desk) -> None:
    for step in (row("一", 1), row("二", 2), row("二", 3)):
        desk.clock.advance(1)
        await desk.devices.put([step], LOWER)
    await desk.db.write(store.mark_missing, LOWER, [CAMERA], desk.clock.at())
    await desk.devices.put([row("三", 4)], LOWER)
    entries = await desk.history()
    assert [(e.number, e.kind, e.revision_before, e.revision) for e in entries] == [
        (3, "return", 3, 4),
        (2, "missing", 3, 3),
        (1, "update", 1, 2),
    ]
    change = entries[2].changes[0]
    assert (change.field, change.before, change.after) == ("name", "一", "二")
    assert (entries[2].platform, entries[2].method, entries[2].actor) == (LOWER, "rest", "")
    assert change.origin is not None
    assert (change.origin.revision, change.origin.method) == (1, Source.REST)


async def test_history_stands_in_the_transaction_of_its_change(desk: Desk) -> None:
    await desk.devices.put([row("一", 1)], LOWER)

    def fail(conn: Connection) -> None:
        store.upsert_many(conn, [row("二", 2)], LOWER, desk.clock.at())
        raise Conflict("then something failed")

    with pytest.raises(Conflict):
        await desk.db.write(fail)
    assert await desk.history() == []


async def test_a_change_of_owner_is_in_the_history(desk: Desk) -> None:
    await desk.devices.merge_catalogue(LOWER, [told()], is_platform=True)
    await desk.hear(told())
    assert (await desk.history())[0].changes == [Difference("owner_platform", LOWER, SELF)]


async def test_versions_of_a_device_and_their_age_are_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_store, "MAX_VERSIONS", 3)
    for number in range(1, 7):
        await desk.devices.put([row(f"名{number}", number)], LOWER)
    assert [entry.number for entry in await desk.history()] == [5, 4, 3]
    desk.clock.advance((history_store.KEPT - timedelta(days=1)).total_seconds())
    await desk.devices.put([row("新", 7)], LOWER)
    keeping = Housekeeping(desk.db, desk.clock)
    assert (await keeping.turn())["history of records"] == 0
    desk.clock.advance(timedelta(days=2).total_seconds())
    assert (await keeping.turn())["history of records"] == 2
    assert [entry.number for entry in await desk.history()] == [6]


async def test_a_field_edited_by_hand_stays_and_the_rest_follows_the_device(desk: Desk) -> None:
    await desk.hear(told("甲", manufacturer="厂"))
    edited = await desk.edit(name="乙")
    assert (edited.item.name, edited.revision) == ("乙", 2)
    await desk.hear(told("丙", manufacturer="新厂"))
    held = await desk.devices.get(CAMERA)
    assert (held.item.name, held.item.manufacturer, held.revision) == ("乙", "新厂", 3)
    assert await desk.methods("name", "manufacturer", "address", "is_networked") == [
        "manual",
        "signalling",
        "signalling",
        "",
    ]
    origin = origins_of(held)["name"]
    assert origin is not None
    assert (origin.platform, origin.revision) == (SELF, 2)


async def test_a_catalogue_that_says_the_same_makes_no_version(desk: Desk) -> None:
    await desk.hear(told())
    first = await desk.devices.get(CAMERA)
    position = await desk.db.read(changes.head)
    await desk.hear(told())
    held = await desk.devices.get(CAMERA)
    assert (held.revision, held.updated_at) == (first.revision, first.updated_at)
    assert whole_of(held) == whole_of(first)
    assert await desk.db.read(changes.head) == position
    assert await desk.history() == []


async def test_a_clock_that_is_set_back_does_not_silence_a_device(desk: Desk) -> None:
    await desk.hear(told("甲"))
    desk.clock.advance(-3_600)
    await desk.hear(told("乙"))
    await desk.hear(told("丙"))
    assert (await desk.devices.get(CAMERA)).item.name == "丙"


async def test_an_edit_travels_and_is_audited_with_its_history(desk: Desk) -> None:
    await desk.hear(told("甲"))
    position = await desk.db.read(changes.head)
    await desk.edit(name="乙", address="路")
    news = await desk.db.read(changes.read_after, position, 10)
    assert [(c.key, c.op, c.revision) for c in news if c.kind == store.KIND] == [(CAMERA, "put", 2)]
    entry = (await desk.history())[0]
    assert (entry.kind, entry.method, entry.actor) == ("edit", "manual", "user:1 admin")
    assert [change.field for change in entry.changes] == ["name", "address"]
    events = await desk.db.read(lambda c: list(c.execute(select(audit.c.event)).scalars()))
    assert events == ["archive_edit"]


async def test_a_dry_run_and_an_edit_without_difference_write_nothing(desk: Desk) -> None:
    await desk.hear(told("甲"))
    by = Editor(ADMIN, EVERYTHING, Context(desk.clock.at()))

    def want(held: DeviceArchive) -> DeviceArchive:
        return replace(held, item=replace(held.item, name="乙"))

    dry = await desk.editing.edit(by, CAMERA, want, Terms(is_dry_run=True))
    assert [(d.field, d.before, d.after) for d in dry.differences] == [("name", "甲", "乙")]
    same = await desk.editing.edit(by, CAMERA, lambda held: held, Terms())
    assert (same.differences, same.is_written, dry.is_written) == ([], False, False)
    assert (await desk.devices.get(CAMERA)).revision == 1
    assert await desk.history() == []


async def test_a_version_that_is_not_the_one_seen_is_refused(desk: Desk) -> None:
    await desk.hear(told("甲"))
    with pytest.raises(Conflict) as caught:
        await desk.edit(Terms(if_version=7), name="乙")
    assert (caught.value.code, caught.value.details["version"]) == (40901, 1)


async def test_only_the_owner_changes_its_record(desk: Desk) -> None:
    await desk.devices.put([row("区", 1)], LOWER)
    with pytest.raises(Forbidden) as caught:
        await desk.edit(name="市")
    assert (caught.value.code, caught.value.details["owner"]) == (40304, LOWER)
    with pytest.raises(Forbidden):
        await desk.undo(Until(number=1))


async def test_an_edit_may_not_move_a_device_out_of_the_editors_reach(desk: Desk) -> None:
    await desk.hear(told("甲"))
    reach = Scope(civil_codes=frozenset({"310104"}))
    with pytest.raises(Forbidden):
        await desk.edit(Terms(), reach, civil_code="310105")
    assert (await desk.edit(Terms(), reach, civil_code="31010401")).item.civil_code == "31010401"


async def test_an_undo_of_an_edit_gives_the_field_back_to_the_device(desk: Desk) -> None:
    await desk.hear(told("甲"))
    await desk.edit(name="乙")
    back = await desk.undo(Until(version=1))
    assert (back.item.name, back.revision) == ("甲", 3)
    assert await desk.methods("name") == ["signalling"]
    await desk.hear(told("丙"))
    assert (await desk.devices.get(CAMERA)).item.name == "丙"
    assert [entry.kind for entry in await desk.history()] == ["update", "undo", "edit"]


async def test_an_undo_of_what_a_catalogue_changed_lasts(desk: Desk) -> None:
    await desk.hear(told("甲"))
    await desk.hear(told("乱码"))
    assert (await desk.undo(Until(number=1))).item.name == "甲"
    await desk.hear(told("乱码"))
    assert (await desk.devices.get(CAMERA)).item.name == "甲"
    assert await desk.methods("name") == ["manual"]


async def test_an_undo_can_be_undone(desk: Desk) -> None:
    await desk.hear(told("甲", parent_ids=(SELF,)))
    await desk.edit(name="乙", parent_ids=(SELF, LOWER), ptz_type=2)
    await desk.undo(Until(version=1))
    again = await desk.undo(Until(version=2))
    assert (again.item.name, again.item.parent_ids, again.item.ptz_type) == ("乙", (SELF, LOWER), 2)
    assert again.revision == 4


async def test_an_undo_says_what_it_cannot_reach(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_store, "MAX_VERSIONS", 2)
    await desk.hear(told("甲"))
    for name in ("乙", "丙", "丁"):
        await desk.edit(name=name)
    with pytest.raises(Gone) as caught:
        await desk.undo(Until(version=1))
    assert caught.value.details == {"oldestVersion": 2}
    with pytest.raises(NotFound):
        await desk.undo(Until(number=1))
    with pytest.raises(InvalidRequest):
        await desk.undo(Until(version=9))
    assert (await desk.undo(Until(version=2))).item.name == "乙"


async def test_a_device_that_was_marked_missing_comes_back_by_undo(desk: Desk) -> None:
    await desk.hear(told("甲"))
    await desk.db.write(store.mark_missing, SELF, [CAMERA], desk.clock.at())
    with pytest.raises(Conflict):
        await desk.edit(name="乙")
    back = await desk.undo(Until(number=1))
    assert (back.missing_since, back.item.name) == (None, "甲")
    assert await desk.methods("name") == ["signalling"]


async def test_a_record_of_another_owner_is_not_brought_back(desk: Desk) -> None:
    await desk.devices.merge_catalogue(LOWER, [told()], is_platform=True)
    await desk.hear(told("甲"))
    with pytest.raises(Conflict):
        await desk.undo(Until(number=1))


async def test_a_file_tells_what_it_changes_and_nothing_else(desk: Desk) -> None:
    await desk.hear(told("甲", manufacturer="厂"))
    held = await desk.devices.get(CAMERA)
    wanted = replace(
        held, item=replace(held.item, name="乙", manufacturer=""), ext=ExtendedAttributes(is_networked=True)
    )
    await desk.devices.put(
        [by_person(held, wanted, Source.FILE, desk.clock.at())], SELF, act_of(ADMIN, Source.FILE)
    )
    assert await desk.methods("name", "manufacturer", "is_networked", "address") == [
        "file",
        "file",
        "file",
        "signalling",
    ]
    await desk.hear(told("甲", manufacturer="厂", address="路"))
    held = await desk.devices.get(CAMERA)
    assert (held.item.name, held.item.manufacturer, held.item.address) == ("乙", "", "路")
    assert (await desk.history())[-1].method == "file"


async def test_what_a_file_left_empty_in_a_new_record_is_filled(desk: Desk) -> None:
    new = DeviceArchive(item=told("甲"), owner=SELF)
    await desk.devices.put([by_person(None, new, Source.FILE, desk.clock.at())], SELF)
    await desk.hear(told("乙", manufacturer="厂"))
    held = await desk.devices.get(CAMERA)
    assert (held.item.name, held.item.manufacturer) == ("甲", "厂")
    assert await desk.methods("name", "manufacturer") == ["file", "signalling"]


async def test_of_two_words_with_one_number_the_same_stays_whoever_comes_first(desk: Desk) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    early = replace(row("早", 5), updated_at=at)
    late = replace(row("晚", 5), updated_at=at + timedelta(seconds=1))
    await desk.devices.put([late], LOWER)
    assert (await desk.devices.put([early], LOWER)).stale == (CAMERA,)
    assert (await desk.devices.get(CAMERA)).item.name == "晚"


async def test_an_import_that_is_undone_gives_its_fields_back(desk: Desk) -> None:
    await desk.hear(told("甲", manufacturer="厂"))
    house = intake.House(SELF, EVERYTHING, SELF, act_of(ADMIN, Source.FILE))
    new = told("新", CAMERA[:-1] + "2")
    rows = [
        ReadRow("", number, DeviceArchive(item=item, owner=SELF))
        for number, item in enumerate((told("乙", manufacturer="厂"), new))
    ]
    await desk.db.write(intake.apply, house, "job", rows, desk.clock.at())
    assert await desk.methods("name", "manufacturer") == ["file", "signalling"]
    undone = act_of(ADMIN, Source.FILE, "undo")
    done = await desk.db.write(intake.undo, SELF, "job", 10, desk.clock.at(), undone)
    assert done == (2, 2, 0)
    assert await desk.methods("name", "manufacturer") == ["signalling", "signalling"]
    assert [(e.kind, e.method, e.actor) for e in await desk.history()] == [
        ("undo", "file", "user:1 admin"),
        ("update", "file", "user:1 admin"),
    ]
    assert [entry.kind for entry in await desk.history(new.device_id)] == ["undo"]
    await desk.hear(told("丙", manufacturer="厂"))
    assert (await desk.devices.get(CAMERA)).item.name == "丙"
