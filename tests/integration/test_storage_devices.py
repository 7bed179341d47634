"""Device archives on both engines: merge, lists by scope, digest tree, status, absence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, update

from tongshi.clock import ManualClock
from tongshi.errors import InvalidRequest, NotFound
from tongshi.exchange import outbox, rows
from tongshi.protocols.gb28181.types import CatalogItem, DeviceStatus
from tongshi.resources.devices import digest_store, reading_store, store
from tongshi.resources.devices.model import (
    DeviceArchive,
    ExtendedAttributes,
    Filters,
    Source,
    UpsertResult,
    digest,
)
from tongshi.resources.devices.service import DeviceArchives
from tongshi.sharing.model import EVERYTHING, Scope
from tongshi.storage import changes
from tongshi.storage.bulk import in_key_order
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_archive

AT = datetime(2026, 1, 1, tzinfo=UTC)
SELF, LOWER, OTHER = "31000000002000000001", "31010400002000000001", "31010500002000000001"


def archive(number: int, owner: str = LOWER, civil_code: str = "310104", **fields: object) -> DeviceArchive:
    item = CatalogItem(device_id=device(number), name=f"徐汇区路口{number}", civil_code=civil_code)
    return msgspec.structs.replace(
        DeviceArchive(item=item, owner=owner, source=Source.REST, revision=1), **fields
    )


def device(number: int) -> str:
    return f"3101040000132{number:07}"


# More than go by a prepared statement, so that PostgreSQL takes lines.
_TOLD = (
    "",
    "null",
    '"',
    "a,b",
    "\\.",
    "\\",
    'C:\\x\\"',
    "a\nb",
    "\r\n",
    "\t",
    "\x7f\x01",
    "\u2028",
    "true",
    "{}",
    "1e5",
    "-0.0",
    "外滩“观景台”",
    " a ",
    "//",
    "''",
)


async def test_any_text_comes_back_as_it_went_among_many(database: Database) -> None:
    numbers = (0.0, 1e-7, 121.40010000000001, 1e22, -5e-324, None)
    told = []
    for n, words in enumerate(_TOLD * 10):
        # Leaves of the digest tree are made of what was told as civil code.
        bare = archive(n, civil_code=words if n < len(_TOLD) else "310104")
        item = replace(
            bare.item, name=words, address=words * 2, max_view_distance=numbers[n % 6], port=n - 50
        )
        ext = ExtendedAttributes(is_networked=(None, True, False)[n % 3], scene_photo_url=words)
        told.append(msgspec.structs.replace(bare, item=item, ext=ext))
    result = await database.write(store.upsert_many, told, LOWER, AT)
    assert len(result.inserted) == len(told)
    held = await database.read(store.get_many, [one.device_id for one in told])
    for one in told:
        assert (held[one.device_id].item, held[one.device_id].ext) == (one.item, one.ext)
    digests = await database.read(digest_store.shard_digests, LOWER)
    assert sum(leaf.count for leaf in digests) == len(told)
    by_leaf = {leaf.civil_code: leaf.digest for leaf in digests}
    plain = [digest(one) for one in told if one.shard == "310104"]
    assert by_leaf["310104"] == digest_store.combine(plain)


def full_item() -> CatalogItem:
    """An item with every field set."""
    return CatalogItem(
        device_id=device(1),
        name="外滩“观景台”",
        manufacturer="厂商",
        model="M1",
        civil_code="31010101",
        block="310101000000",
        address="中山东一路",
        parental=0,
        parent_ids=(LOWER, SELF),
        register_way=3,
        security_level_code="B",
        secrecy=1,
        ip_address="192.0.2.1",
        port=5060,
        status=DeviceStatus.ON,
        longitude=121.49056789012345,
        latitude=31.2,
        business_group_id="31010400002150000001",
        ptz_type=1,
        photoelectric_imaging_types=("1", "2"),
        capture_position_type="0101001",
        room_type=1,
        supply_light_type=2,
        direction_type=8,
        resolutions=("6", "5"),
        stream_numbers=("0", "1"),
        download_speeds=("1", "2", "4"),
        svc_space_support_mode=0,
        svc_time_support_mode=1,
        ssvc_ratios=("4:3", "2:1"),
        mobile_device_type=9,
        horizontal_field_angle=60.5,
        vertical_field_angle=33.75,
        max_view_distance=100.0,
        grassroots_code="000000",
        point_type=1,
        point_common_name="外滩",
        mac="00-11-22-33-44-55",
        function_types=("01", "99"),
        encode_type="2",
        install_time="2025-06-01T08:00:00",
        management_unit="管理处",
        contact_info="021-1/021-2",
        record_save_days=30,
        industrial_classification="I65",
    )


FULL_EXT = ExtendedAttributes(
    is_controllable=True,
    keyboard_number="123456789",
    storage_device_ip="192.0.2.9",
    storage_channel="31010000001180001001",
    scene_photo_url="/p/1.jpg",
    has_positioning_module=False,
    is_networked=True,
    police_jurisdiction="310104620000",
    industries=("1", "12"),
)


async def put(database: Database, *archives: DeviceArchive, at: datetime = AT) -> UpsertResult:
    return await database.write(store.upsert_many, archives, LOWER, at)


async def keys(database: Database, scope: Scope, filters: Filters | None = None) -> list[str]:
    found, total = await database.read(store.page, scope, filters or Filters(), 1, 100)
    assert total == len(found)
    return [a.device_id for a in found]


async def test_every_field_comes_back_as_it_went_in(database: Database) -> None:
    new = DeviceArchive(
        item=full_item(), ext=FULL_EXT, owner=LOWER, revision=4, updated_at=AT, source=Source.REST
    )
    await put(database, new)
    await database.write(store.set_statuses, {device(1): True}, LOWER, AT)
    found = await database.read(store.get, device(1))
    assert found == replace(new, online=True)


async def test_only_real_differences_are_written_and_noted(database: Database) -> None:
    first = await put(database, archive(1), archive(2))
    assert first.inserted == (device(1), device(2))
    changed = archive(2, item=replace(archive(2).item, name="新名"), revision=2)
    second = await put(database, archive(1), changed, archive(3))
    assert (second.unchanged, second.updated, second.inserted) == ((device(1),), (device(2),), (device(3),))
    found = await database.read(changes.read_after, 0, 100)
    assert sorted((c.key, c.revision) for c in found) == [
        (device(1), 1),
        (device(2), 1),
        (device(2), 2),
        (device(3), 1),
    ]
    assert {c.origin for c in found} == {LOWER}


@pytest.mark.parametrize("count", [10, 300])
async def test_a_batch_twice_changes_nothing_the_second_time(database: Database, count: int) -> None:
    batch = [archive(i) for i in range(count)]
    await put(database, *batch)
    before = await database.read(digest_store.root_digest, LOWER), await database.read(changes.head)
    assert len((await put(database, *batch)).unchanged) == count
    assert (await database.read(digest_store.root_digest, LOWER), await database.read(changes.head)) == before


async def test_the_last_of_two_archives_of_one_device_counts(database: Database) -> None:
    await put(database, archive(1), archive(1, item=replace(archive(1).item, name="后")))
    assert (await database.read(store.get, device(1))).item.name == "后"  # type: ignore[union-attr]
    assert (await database.read(digest_store.root_digest, LOWER))[0] == 1


async def test_revisions_are_counted_when_the_owner_does_not(database: Database) -> None:
    for name in ("a", "b", "b"):
        await put(database, archive(1, item=replace(archive(1).item, name=name), revision=0))
    found = await database.read(store.get, device(1))
    assert found is not None
    assert found.revision == 2


async def test_an_older_revision_of_the_owner_is_stale(database: Database) -> None:
    await put(database, archive(1, revision=5))
    old = archive(1, revision=4, item=replace(archive(1).item, name="旧"))
    assert (await put(database, old)).stale == (device(1),)


async def test_a_row_of_another_owner_is_left_alone(database: Database) -> None:
    await put(database, archive(1))
    result = await put(database, archive(1, owner=OTHER, item=replace(archive(1).item, name="抢")))
    assert result.foreign == (device(1),)
    assert (await database.read(digest_store.root_digest, OTHER))[0] == 0


async def test_hearsay_gives_way_to_the_owners_own_record(database: Database) -> None:
    await put(database, archive(1, owner=LOWER, source=Source.CASCADE, revision=0))
    assert (await put(database, archive(1, owner=OTHER))).updated == (device(1),)
    assert (await database.read(digest_store.root_digest, LOWER))[0] == 0
    assert (await database.read(digest_store.root_digest, OTHER))[0] == 1


async def test_a_missing_device_leaves_lists_and_digest_and_comes_back(database: Database) -> None:
    await put(database, archive(1), archive(2))
    full = await database.read(digest_store.root_digest, LOWER)
    assert await database.write(store.mark_missing, LOWER, [device(1), device(9)], AT) == 1
    assert await database.write(store.mark_missing, LOWER, [device(1)], AT) == 0
    assert await keys(database, EVERYTHING) == [device(2)]
    assert await keys(database, EVERYTHING, Filters(include_missing=True)) == [device(1), device(2)]
    kept = await database.read(store.get, device(1))
    assert kept is not None
    assert kept.missing_since == AT
    assert (await database.read(digest_store.root_digest, LOWER))[0] == 1
    assert (await put(database, archive(1))).updated == (device(1),)
    assert await database.read(digest_store.root_digest, LOWER) == full


async def test_only_the_owners_devices_can_be_marked_missing(database: Database) -> None:
    await put(database, archive(1))
    assert await database.write(store.mark_missing, OTHER, [device(1)], AT) == 0


async def test_equal_archives_give_equal_digests_whatever_the_order_and_source(database: Database) -> None:
    batch = [archive(i, civil_code=f"31010{i % 4}") for i in range(40)]
    for one in reversed(batch):
        await put(database, one)
    count, root = await database.read(digest_store.root_digest, LOWER)
    shards = await database.read(digest_store.shard_digests, LOWER)
    assert count == 40
    assert [s.count for s in shards] == [10] * 4
    for shard in shards:
        mine = [digest(a) for a in batch if a.shard == shard.civil_code]
        assert digest_store.combine(mine) == shard.digest
    relabelled = [replace(a, source=Source.MANUAL, revision=9, online=False) for a in batch]
    await put(database, *relabelled)
    assert (await database.read(digest_store.root_digest, LOWER))[1] == root


async def test_a_change_moves_a_device_from_leaf_to_leaf(database: Database) -> None:
    await put(database, archive(1))
    await put(database, archive(1, civil_code="310105", revision=2))
    shards = await database.read(digest_store.shard_digests, LOWER)
    assert [(s.civil_code, s.count) for s in shards] == [("310105", 1)]
    rows = await database.read(digest_store.shard_rows, LOWER, "310105", "", 10)
    assert rows == [(device(1), digest(archive(1, civil_code="310105")))]


async def test_concurrent_batches_keep_the_digest_tree_right(database: Database) -> None:
    batches = [
        [archive(i, revision=r, item=replace(archive(i).item, name=f"{r}")) for i in range(30)]
        for r in range(1, 9)
    ]
    await asyncio.gather(*(put(database, *batch) for batch in batches))
    held = await database.read(reading_store.iter_owned, LOWER, "", 100)
    shards = await database.read(digest_store.shard_digests, LOWER)
    assert [s.digest for s in shards] == [digest_store.combine(digest(a) for a in held)]


async def test_the_scope_narrows_before_the_count(database: Database) -> None:
    await put(
        database,
        archive(1, civil_code="310104"),
        archive(2, civil_code="31010407"),
        archive(3, civil_code="310105"),
        archive(4, owner=OTHER, civil_code="310106"),
    )
    assert await keys(database, Scope()) == []
    assert await keys(database, Scope(civil_codes=frozenset({"310104"}))) == [device(1), device(2)]
    assert await keys(database, Scope(owners=frozenset({OTHER}))) == [device(4)]
    assert await keys(database, Scope(device_ids=frozenset({device(3)}), owners=frozenset({OTHER}))) == [
        device(3),
        device(4),
    ]
    assert len(await keys(database, EVERYTHING)) == 4
    narrow = Scope(civil_codes=frozenset({"310105"}))
    assert list(await database.read(store.get_many, [device(1), device(3)], narrow)) == [device(3)]


async def test_filters_narrow_a_list(database: Database) -> None:
    await put(database, archive(1), archive(2, item=replace(archive(2).item, name="100%_南京路")))
    await database.write(store.set_statuses, {device(2): True}, LOWER, AT)
    for filters, expected in (
        (Filters(keyword="南京"), [2]),
        (Filters(keyword="%_"), [2]),
        (Filters(keyword=device(1)), [1]),
        (Filters(keyword="没有"), []),
        (Filters(civil_code="3101"), [1, 2]),
        (Filters(civil_code="3102"), []),
        (Filters(online=True), [2]),
        (Filters(online=False), [1]),
        (Filters(owner=OTHER), []),
        (Filters(owner=LOWER, keyword="路口", online=False), [1]),
    ):
        assert await keys(database, EVERYTHING, filters) == [device(n) for n in expected], filters


async def test_pages_follow_each_other(database: Database) -> None:
    await put(database, *(archive(i) for i in range(7)))
    pages = [await database.read(store.page, EVERYTHING, Filters(), n, 3) for n in (1, 2, 3, 4)]
    assert [[a.device_id for a in found] for found, _ in pages] == [
        [device(n) for n in numbers] for numbers in ([0, 1, 2], [3, 4, 5], [6], [])
    ]
    assert {total for _, total in pages} == {7}


@pytest.mark.parametrize("owners", [[LOWER], [LOWER, OTHER]], ids=["one", "several"])
async def test_a_page_of_a_full_reads_no_row_behind_it(database: Database, owners: list[str]) -> None:
    # No statistics were gathered, as after a first load.
    await put(database, *(archive(i, owner=OTHER if i % 3 == 0 else LOWER) for i in range(3_000)))

    def plan(conn: Connection) -> str:
        in_key_order(conn)
        page = reading_store.wire_page(conn, device(100), 50, owners)
        compiled = page.compile(dialect=conn.dialect, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if conn.dialect.name == "sqlite" else "EXPLAIN"
        return "\n".join(str(row) for row in conn.exec_driver_sql(f"{explain} {compiled}"))

    told = await database.read(plan)
    assert "Sort" not in told
    assert "TEMP B-TREE" not in told
    rows = await database.read(reading_store.wire_rows, device(100), 50, owners)
    wanted = [i for i in range(101, 3_000) if i % 3 or OTHER in owners][:50]
    assert [row[0] for row in rows] == [device(i) for i in wanted]


def _all_kinds(number: int, text: str) -> DeviceArchive:
    """An archive that holds a text, flags and numbers of every form."""
    flag = (True, False, None)[number % 3]
    degrees = (121.4, 31.0, -0.1, 1e-7, 179.99999999999997, None)[number % 6]
    item = msgspec.structs.replace(
        archive(number).item,
        name=text,
        address=text,
        longitude=degrees,
        max_view_distance=1e21,
        ptz_type=number,
    )
    ext = ExtendedAttributes(
        is_networked=flag, is_controllable=flag, scene_photo_url=text, industries=("1", "2")
    )
    return archive(number, item=item, ext=ext)


_PLAIN = tuple(text for text in _TOLD if min(text, default=" ") >= " ")


async def test_postgresql_writes_rows_as_the_json_that_we_would(database: Database) -> None:
    told = [
        _all_kinds(number, text) for number, text in enumerate((*_PLAIN, "t", "{}", "],[", "[[", "\\u0041"))
    ]
    await put(database, *told)
    await database.write(store.set_statuses, {device(0): True, device(1): False}, LOWER, AT)
    lines = await database.read(reading_store.wire_lines, "", 100, [LOWER])
    if database.dialect == "sqlite":
        assert lines is None
        return
    fetched = await database.read(reading_store.wire_rows, "", 100, [LOWER])
    assert lines is not None
    assert [msgspec.json.decode(line) for line in lines] == [
        msgspec.json.decode(rows.encode(row)) for row in fetched
    ]
    assert [rows.parse(line) for line in lines] == [rows.parse(rows.encode(row)) for row in fetched]
    assert [rows.key_of(line) for line in lines] == [one.device_id for one in told]
    assert await database.read(reading_store.wire_lines, device(1), 2, [LOWER, OTHER]) == lines[2:4]
    assert await database.read(reading_store.wire_lines, device(99), 2, [LOWER]) == []


@pytest.mark.parametrize("text", [text for text in _TOLD if min(text, default=" ") < " "], ids=ascii)
async def test_a_text_that_the_database_cannot_tell_is_told_by_us(database: Database, text: str) -> None:
    await put(database, *(_all_kinds(number, "ab"[number % 2]) for number in range(5)), _all_kinds(5, text))
    assert await database.read(reading_store.wire_lines, "", 10, [LOWER]) is None
    page = await database.read(outbox.page, outbox.Audience(OTHER), "", 10)
    assert [rows.key_of(item) for item in page.items] == [device(number) for number in range(6)]
    assert rows.parse(page.items[5]).values[1] == text
    assert (page.last_key, page.is_last) == (device(5), True)


async def test_a_number_that_is_not_finite_is_not_told_as_json(database: Database) -> None:
    await put(database, archive(1))
    endless = update(device_archive).values(longitude=float("inf"))
    await database.write(lambda conn: conn.execute(endless) and None)
    assert await database.read(reading_store.wire_lines, "", 10, [LOWER]) is None


async def test_a_full_walk_by_key_meets_every_present_device_once(database: Database) -> None:
    await put(database, *(archive(i, owner=OTHER if i % 3 == 0 else LOWER) for i in range(20)))
    await database.write(store.mark_missing, LOWER, [device(1)], AT)
    seen: list[str] = []
    while batch := await database.read(reading_store.iter_owned, LOWER, seen[-1] if seen else "", 5):
        seen += [a.device_id for a in batch]
    assert seen == [device(i) for i in range(20) if i % 3 and i != 1]
    assert await database.read(reading_store.owned_keys, LOWER, "", 100) == seen
    assert await database.read(digest_store.owners) == {LOWER: 12, OTHER: 7}


async def test_status_is_noted_when_it_turns_only(database: Database) -> None:
    assert await database.write(store.set_statuses, {device(1): True}, LOWER, AT)
    assert not await database.write(store.set_statuses, {device(1): True}, LOWER, AT + timedelta(hours=1))
    assert await database.write(store.set_statuses, {device(1): False}, LOWER, AT + timedelta(hours=2))
    assert len(await database.read(changes.read_after, 0, 10, [store.KIND_STATUS])) == 2


async def test_hostile_keys_are_answered_without_a_fault(database: Database) -> None:
    await put(database, archive(1))
    for key in ("", "x" * 10_000, "a\0b", "\udc80", "'; DROP TABLE device_archive; --"):
        try:
            assert await database.read(store.get, key) is None
            assert await keys(database, EVERYTHING, Filters(keyword=key or "没有")) == []
        except InvalidRequest:
            continue
    assert await keys(database, EVERYTHING) == [device(1)]


async def test_a_number_no_column_holds_is_refused_not_a_crash(database: Database) -> None:
    with pytest.raises(InvalidRequest):
        await put(database, archive(1, revision=2**70))


# --- Service


def service(database: Database) -> DeviceArchives:
    return DeviceArchives(database, store, ManualClock(), SELF)


def told(number: int, name: str = "来自目录", status: DeviceStatus | None = DeviceStatus.ON) -> CatalogItem:
    return CatalogItem(device_id=device(number), name=name, civil_code="310104", status=status)


async def test_a_registered_devices_catalogue_belongs_to_this_platform(database: Database) -> None:
    result = await service(database).merge_catalogue(device(8), [told(1), told(2)], is_platform=False)
    assert result.stored.inserted == (device(1), device(2)) == result.turned
    found = await service(database).get(device(1))
    assert (found.owner, found.source, found.online) == (SELF, Source.SIGNALLING, True)


async def test_a_partial_catalogue_deletes_nothing(database: Database) -> None:
    await service(database).merge_catalogue(LOWER, [told(1), told(2)], is_platform=True)
    await service(database).merge_catalogue(LOWER, [told(2)], is_platform=True)
    assert await keys(database, EVERYTHING) == [device(1), device(2)]


async def test_a_cascade_tells_the_status_of_what_rest_told_and_nothing_else(database: Database) -> None:
    await put(database, archive(1, ext=FULL_EXT))
    before = await database.read(digest_store.root_digest, LOWER)
    await service(database).merge_catalogue(LOWER, [told(1, "瘦身")], is_platform=True)
    found = await service(database).get(device(1))
    assert (found.item.name, found.ext, found.online) == ("徐汇区路口1", FULL_EXT, True)
    assert await database.read(digest_store.root_digest, LOWER) == before


async def test_a_catalogue_keeps_the_extended_attributes_it_cannot_carry(database: Database) -> None:
    mine = archive(1, owner=SELF, source=Source.SIGNALLING, ext=FULL_EXT, revision=0)
    await put(database, mine)
    await service(database).merge_catalogue(device(8), [told(1, "新名")], is_platform=False)
    found = await service(database).get(device(1))
    assert (found.item.name, found.ext, found.revision) == ("新名", FULL_EXT, 2)


async def test_a_neighbour_cannot_take_or_switch_off_our_own_device(database: Database) -> None:
    await service(database).merge_catalogue(device(8), [told(1)], is_platform=False)
    await service(database).merge_catalogue(OTHER, [told(1, "抢", DeviceStatus.OFF)], is_platform=True)
    result = await service(database).put([archive(1, owner=OTHER)], OTHER)
    found = await service(database).get(device(1))
    assert (result.foreign, found.owner, found.online) == ((device(1),), SELF, True)


async def test_what_a_person_wrote_is_filled_not_overwritten(database: Database) -> None:
    await put(database, archive(1, owner=SELF, source=Source.MANUAL))
    item = replace(told(1, "别名"), manufacturer="厂商")
    await service(database).merge_catalogue(device(8), [item], is_platform=False)
    found = await service(database).get(device(1))
    assert (found.item.name, found.item.manufacturer) == ("徐汇区路口1", "厂商")


async def test_items_that_cannot_be_kept_are_named_and_spoil_no_other(database: Database) -> None:
    bad = [
        CatalogItem(device_id=""),
        CatalogItem(device_id=device(2), longitude=float("nan")),
        CatalogItem(device_id=device(3), port=2**80),
        CatalogItem(device_id=device(4), name="a\0b"),
        CatalogItem(device_id=device(5), name="\udc80"),
        CatalogItem(device_id=device(6), parent_ids=("a/b",)),
    ]
    result = await service(database).merge_catalogue(LOWER, [told(1), *bad], is_platform=True)
    assert result.stored.inserted == (device(1),)
    assert [key for key, _ in result.rejected] == [item.device_id for item in bad]


async def test_marking_missing_leaves_an_audit_record(database: Database) -> None:
    from tongshi.audit import store as audit

    await put(database, archive(1))
    assert await service(database).mark_missing(LOWER, [device(1)], LOWER, "snapshot 1, 0 rows") == 1
    records, _ = await database.read(audit.page, 1, 10)
    assert records[0].entry.details == {"count": 1, "proof": "snapshot 1, 0 rows"}


async def test_an_unknown_device_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound) as missing:
        await service(database).get(device(404))
    assert missing.value.code == 40401
