"""Long jobs over files: progress, cancel, a kill at any moment, a full disk, reports of many broken rows."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tongshi.clock import SystemClock
from tongshi.resources.devices import digest_store
from tongshi.resources.devices import store as devices
from tongshi.resources.files import importing, intake, store
from tongshi.resources.files import service as service_module
from tongshi.resources.files.model import Format, JobState
from tongshi.resources.files.package import Key, Origin, PackageWriter
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME = "31010400002000000001"
RIGHTS = frozenset({Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT, Permission.ARCHIVE_WRITE})
WHO = Subject(SubjectKind.API_KEY, "desk", "desk", permissions=RIGHTS)
HEAD = "DeviceID,Name,CivilCode,Longitude\n"


async def opened(database: Database) -> RestPlatform:
    """A platform whose desk may do everything with its files."""
    platform = await RestPlatform.open(HOME, database, SystemClock())
    await platform.files.start()
    await platform.grants.put_key("desk", "desk", "k" * 32, RIGHTS)
    actions = frozenset({Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT})
    grant = Grant("", SubjectKind.API_KEY, "desk", actions, ScopeKind.ALL, frozenset())
    by = Subject(SubjectKind.USER, "0", "test")
    await platform.grants.give(by, grant, Context(platform.clock.at()))
    return platform


@pytest.fixture
async def office(database: Database) -> AsyncIterator[RestPlatform]:
    platform = await opened(database)
    yield platform
    await platform.files.stop()
    shutil.rmtree(platform.files.folder, ignore_errors=True)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's beginning is answered, not its end."""
    monkeypatch.setattr(service_module, "PATIENCE_S", 0.0)


async def take(office: RestPlatform, data: bytes, *, dry_run: bool = False) -> Any:
    upload = office.files.folder / "upload"
    upload.write_bytes(data)
    context = Context(office.clock.at())
    return await office.files.take(WHO, upload, context, dry_run=dry_run, is_atomic=False)


async def ended(office: RestPlatform, seen: Any) -> Any:
    async with asyncio.timeout(60):
        while seen.job.state in (JobState.QUEUED, JobState.RUNNING):
            await asyncio.sleep(0.02)
            seen = await office.files.see(WHO, seen.job.id)
    return seen.job


def table(count: int, first: int = 1) -> bytes:
    lines = (f"3101040000131{n:07},路口{n},310104,121.4\n" for n in range(first, first + count))
    return (HEAD + "".join(lines)).encode()


@pytest.mark.parametrize("form", list(Format))
async def test_a_running_import_tells_rate_and_what_remains(
    office: RestPlatform, at_once: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: Format
) -> None:
    if form is Format.CSV:
        data = table(5_000)
    else:
        writer = PackageWriter(tmp_path / "p.zip", form)
        for first in range(1, 5_001, 1_000):
            writer.add(sample_archives(HOME, 1_000, first))
        writer.close(Origin(HOME, "feed", 1, office.clock.at()), frozenset(), Key("k", "s"))
        with zipfile.ZipFile(tmp_path / "p.zip") as package:
            data = package.read(f"devices.{form.value}")
    step, go = asyncio.Event(), asyncio.Event()
    real = importing._Ledger.count

    async def slowly(self: Any, judged: Any, rows: int) -> None:
        await real(self, judged, rows)
        step.set()
        await go.wait()

    monkeypatch.setattr(importing._Ledger, "count", slowly)
    begun = await take(office, data)
    await asyncio.wait_for(step.wait(), 30)
    seen = await office.files.see(WHO, begun.job.id)
    assert seen.job.done == 1_000
    assert seen.job.total == pytest.approx(5_000, rel=0.05)
    assert seen.rate is not None
    assert seen.remaining_s == pytest.approx((seen.job.total - 1_000) / seen.rate)
    assert seen.job.report is not None
    assert seen.job.report.inserted == 1_000
    go.set()
    job = await ended(office, begun)
    assert (job.state, job.done, job.total) == (JobState.DONE, 5_000, 5_000)


async def test_a_cancelled_import_says_what_it_did_and_is_undone(
    office: RestPlatform, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = asyncio.Event()
    real = importing._Ledger.count

    async def stopping(self: Any, judged: Any, rows: int) -> None:
        await real(self, judged, rows)
        if self.tally.rows == 2_000:
            step.set()
            await asyncio.sleep(60)

    monkeypatch.setattr(importing._Ledger, "count", stopping)
    begun = await take(office, table(5_000))
    await asyncio.wait_for(step.wait(), 30)
    job = (await office.files.cancel(WHO, begun.job.id)).job
    assert (job.state, job.error) == (JobState.CANCELLED, "已取消")
    assert job.report is not None
    assert job.report.inserted == 2_000
    assert not list(office.files.folder.iterdir())
    count, _ = await office.db.read(digest_store.root_digest, HOME)
    assert count == 2_000
    restored = await office.files.undo(WHO, job.id, job.undo_token, Context(office.clock.at()))
    assert restored == (2_000, 0)
    assert (await office.db.read(digest_store.root_digest, HOME))[0] == 0


async def test_a_cancelled_export_leaves_nothing_even_while_it_writes(
    office: RestPlatform, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.db.write(devices.upsert_many, sample_archives(HOME, 3_000), HOME, office.clock.at())
    writing = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = PackageWriter.add

    def slowly(self: PackageWriter, rows: Any) -> None:
        loop.call_soon_threadsafe(writing.set)
        time.sleep(0.3)
        real(self, rows)

    monkeypatch.setattr(PackageWriter, "add", slowly)
    begun = await office.files.export(WHO, Format.CSV, Context(office.clock.at()))
    await asyncio.wait_for(writing.wait(), 10)
    job = (await office.files.cancel(WHO, begun.job.id)).job
    assert job.state is JobState.CANCELLED
    await asyncio.sleep(0.5)
    assert not list(office.files.folder.iterdir())


@pytest.mark.parametrize("form", list(Format))
async def test_a_full_disk_is_told_and_leaves_nothing(
    office: RestPlatform, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    await office.db.write(devices.upsert_many, sample_archives(HOME, 3_000), HOME, office.clock.at())
    from tongshi.resources.files import package

    written = [0]
    real = package._Hashed.write

    def until_full(self: Any, data: Any) -> int:
        written[0] += len(data)
        if written[0] > 500:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(package._Hashed, "write", until_full)
    seen = await office.files.export(WHO, form, Context(office.clock.at()))
    job = await ended(office, seen)
    assert job.state is JobState.FAILED
    assert "磁盘空间不足" in job.error
    assert not list(office.files.folder.iterdir())


async def test_every_broken_row_is_in_the_report_and_the_job_shows_the_first(
    office: RestPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_ERRORS_SHOWN", 10)
    lines = [f"3101040000131{n:07},=路口{n},310104,东经\n" for n in range(1, 2_501)]
    seen = await take(office, (HEAD + "".join(lines)).encode("gb18030"), dry_run=True)
    job = await ended(office, seen)
    assert job.state is JobState.DONE
    assert (job.report.rejected, len(job.report.errors)) == (2_500, 10)
    first = job.report.errors[0]
    assert (first.row, first.column, first.code, first.rule) == (2, "Name", 42202, "formula")
    assert "公式" in first.message
    path = await office.files.refused(WHO, job.id)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["工作表", "行号", "列", "设备编码", "错误码", "规则", "说明"]
    assert len(rows) == 2_501
    assert rows[-1][1:3] == ["2501", "Name"]


async def test_a_report_is_the_callers_own_and_goes_with_its_job(office: RestPlatform) -> None:
    job = await ended(office, await take(office, b"DeviceID,Longitude\n1,east\n", dry_run=True))
    assert job.report.rejected == 1
    other = Subject(SubjectKind.API_KEY, "other", "other", permissions=RIGHTS)
    from tongshi.errors import NotFound

    with pytest.raises(NotFound):
        await office.files.refused(other, job.id)
    good = await ended(office, await take(office, table(1), dry_run=True))
    with pytest.raises(NotFound):
        await office.files.refused(WHO, good.id)


async def test_what_nobody_may_undo_any_more_is_forgotten_a_slice_at_a_time(office: RestPlatform) -> None:
    job = await ended(office, await take(office, table(2_500)))
    assert await office.db.read(store.count_undo, job.id) == 2_500
    at = job.finished_at
    assert await office.db.read(store.without_undo, at, at) == [job.id]
    assert await office.db.write(store.drop_some_undo, job.id, 1_000) == 1_000
    assert await office.db.read(store.count_undo, job.id) == 1_500


async def test_a_start_removes_what_a_killed_process_left_and_nothing_else(office: RestPlatform) -> None:
    await office.db.write(devices.upsert_many, sample_archives(HOME, 5), HOME, office.clock.at())
    kept = await ended(office, await office.files.export(WHO, Format.CSV, Context(office.clock.at())))
    folder = office.files.folder
    for name in (f"{'a' * 24}.part", f"{'a' * 24}.data", f"{'b' * 24}.upload", f"{'c' * 24}.errors.csv"):
        (folder / name).write_bytes(b"x")
    (folder / "README").write_text("not ours")
    await office.files.start()
    assert {path.name for path in folder.iterdir()} == {f"{kept.id}.part", "README"}


CHILD = """
import asyncio, sys
from pathlib import Path
from tests_at_size import opened, take, table, Database, intake
async def main():
    database = await Database.open(sys.argv[1])
    office = await opened(database)
    office.files.folder = Path(sys.argv[2])
    office.files.folder.mkdir(exist_ok=True)
    real = intake.apply
    batches = [0]
    def told(conn, *args):
        judged = real(conn, *args)
        batches[0] += 1
        print(batches[0], flush=True)
        return judged
    intake.apply = told
    await take(office, table(20_000))
    await asyncio.sleep(60)
asyncio.run(main())
"""


def _killed_at(batch: int, url: str, folder: Path) -> None:
    """Import in a process of its own and kill it in the middle of a batch."""
    here = Path(__file__)
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_at_size', {str(here)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['tests_at_size'] = module\n"
        "spec.loader.exec_module(module)\n"
    ) + textwrap.dedent(CHILD)
    process = subprocess.Popen(
        [sys.executable, "-c", code, url, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(here.parents[2] / "src")},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == batch:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def killed(tmp_path: Path, sqlite_template: Path) -> tuple[str, Path]:
    shutil.copy(sqlite_template, tmp_path / "killed.db")
    url, folder = f"sqlite:///{tmp_path}/killed.db", tmp_path / "files"
    _killed_at(4, url, folder)
    return url, folder


async def test_a_kill_in_the_middle_of_an_import_leaves_a_failed_job_that_can_be_undone(
    killed: tuple[str, Path],
) -> None:
    url, folder = killed
    assert list(folder.iterdir()), "the upload was being read"
    database = await Database.open(url)
    office = await opened(database)
    office.files.folder = folder
    await office.files.start()
    assert not list(folder.iterdir())
    (seen,) = await office.files.mine(WHO)
    assert (seen.job.state, seen.job.error) == (JobState.FAILED, "平台重新启动，任务中断")
    count, _ = await database.read(digest_store.root_digest, HOME)
    assert count >= 3_000
    assert count % 1_000 == 0, "a batch is whole or not there"
    assert await database.read(store.count_undo, seen.job.id) == count
    restored = await office.files.undo(WHO, seen.job.id, seen.job.undo_token, Context(office.clock.at()))
    assert restored == (count, 0)
    assert (await database.read(digest_store.root_digest, HOME))[0] == 0
    again = await ended(office, await take(office, table(20_000)))
    assert (again.state, again.report.inserted + again.report.updated) == (JobState.DONE, 20_000)
    await office.files.stop()
    await database.close()


async def test_a_flipped_bit_and_a_foreign_signer_are_told_apart(office: RestPlatform) -> None:
    await office.db.write(devices.upsert_many, sample_archives(HOME, 5), HOME, office.clock.at())
    job = await ended(office, await office.files.export(WHO, Format.CSV, Context(office.clock.at())))
    path, _ = await office.files.content(WHO, job.id, Context(office.clock.at()))
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}

    def packed(**changed: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as made:
            for name, body in parts.items():
                made.writestr(name, changed.get(name.partition(".")[0], body))
        return stream.getvalue()

    data = bytearray(parts["devices.csv"])
    data[200] ^= 1
    manifest = parts["manifest.json"].replace(b'"position"', b'"position" ')
    value = msgspec.json.decode(parts["signature.json"])
    stranger = msgspec.json.encode({**value, "keyId": "stranger"})
    for changed, words in (
        ({"devices": bytes(data)}, "SM3 不符"),
        ({"manifest": manifest}, "签名无效"),
        ({"signature": stranger}, "不是本平台的邻居"),
    ):
        job = await ended(office, await take(office, packed(**changed)))
        assert job.state is JobState.FAILED
        assert words in job.error
    assert (await ended(office, await take(office, packed()))).report.unchanged == 5


def test_the_judge_needs_no_whole_archive() -> None:
    """Dry runs of a million rows read six columns of what is known, not sixty."""
    assert "get_many" not in intake.judge.__code__.co_names
