"""Archives out to a file and in again beside the raw way of both: ``tongshi bench files``.

A platform is filled, exports a signed package, and a second, empty one takes the package's bare data file in:
a dry run first, then for good, then undone. Export and import are jobs of ``Files`` with everything they do:
scope, digests, signature, audit, change feed, undo record, report. The raw figures are taken in the same run
over the same rows already in memory, a batch at a time: writing them with the plainest writer of the form
(``csv.writer`` for CSV and XLSX, JSON lines, a Parquet table), and one bare bulk upsert into the table.
Resident memory is looked at all the while, that of the process that decodes Parquet beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import platform
import resource
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from tongshi.clock import SystemClock
from tongshi.observe import logs
from tongshi.resources.devices import digest_store, store, wire
from tongshi.resources.devices.model import DeviceArchive, flatten
from tongshi.resources.files.jobs import Seen
from tongshi.resources.files.model import Format, Job, JobState
from tongshi.resources.files.package import Key, Origin, PackageWriter
from tongshi.resources.files.table import COLUMNS, cells
from tongshi.sharing.model import Context, Grant, ScopeKind, Subject, SubjectKind
from tongshi.sharing.permissions import Permission
from tongshi.storage.bulk import bulk_upsert
from tongshi.storage.engine import Database
from tongshi.storage.schema import device_archive
from tongshi.testing.postgres import AS_ADVISED, create_database, private_postgres
from tongshi.testing.rest_platform import RestPlatform, sample_archives

HOME = "31010400002000000001"
CLERK = "clerk"
SECRET = "bench-secret-of-this-run-only"  # noqa: S105  # guards files that end with the run
BATCH = 5_000
LOOK_S = 0.1
SAY_EVERY_S = 10.0
_RIGHTS = frozenset({Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT, Permission.ARCHIVE_WRITE})
WHO = Subject(SubjectKind.API_KEY, CLERK, CLERK, permissions=_RIGHTS)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One job: seconds, rows a second, and the private resident memory at its highest."""

    seconds: float
    rows_per_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One form on one engine."""

    form: str
    engine: str
    devices: int
    data_mib: float
    export: Step | None
    raw_export_s: float | None
    export_ratio: float | None
    dry_run: Step | None
    import_: Step | None
    raw_import_s: float | None
    import_ratio: float | None
    undo_s: float | None
    child_rss_mib: float
    is_equal: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``tongshi bench files``."""
    parser.add_argument("--devices", type=int, default=100_000, help="archives (default 100000)")
    parser.add_argument("--format", choices=[form.value for form in Format], default="csv")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--only", choices=("export", "import"), help="export, or import without dry run and undo"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")


def run_cli(args: argparse.Namespace) -> int:
    """Measure and print. Returns 0 when what was imported equals what was exported."""
    logs.configure("warning", "text", sys.stderr)

    def say(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    with _databases(args.engine) as (urls, folder):
        found = asyncio.run(measure(urls, Format(args.format), args.devices, folder, args.only, say))
    report = {"what": "files", "python": platform.python_version(), **asdict(found)}
    print(json.dumps(report, indent=2))
    return 0 if found.is_equal else 1


async def measure(
    urls: Sequence[str],
    form: Format,
    count: int,
    folder: Path,
    only: str | None = None,
    say: Say = lambda text: None,
) -> Measured:
    """Fill, export; dry run, import, undo; each beside its raw way. ``urls`` are three empty databases."""
    data = folder / "data"
    export = raw_export_s = dry_run = taken = raw_import_s = undo_s = None
    is_equal = True
    if only != "import":
        export, raw_export_s = await _out(urls[0], form, count, data, say)
    else:
        await asyncio.to_thread(_made, form, count, data)
    if only != "export":
        dry_run, taken, undo_s, is_equal = await _in(urls[1], count, data, only is not None, say)
        raw_import_s = await _raw_import(urls[2], count)
    return Measured(
        form.value,
        urls[0].partition(":")[0],
        count,
        round(data.stat().st_size / 2**20, 1),
        export,
        raw_export_s,
        export.seconds / raw_export_s if export and raw_export_s else None,
        dry_run,
        taken,
        raw_import_s,
        taken.seconds / raw_import_s if taken and raw_import_s else None,
        undo_s,
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        is_equal,
    )


async def _out(url: str, form: Format, count: int, data: Path, say: Say) -> tuple[Step, float]:
    """Export from a platform that was filled, and write the same rows plainly."""
    async with _office(url) as office:
        say(f"filling {count} archives")
        for rows in _batches(count):
            await office.db.write(store.upsert_many, rows, HOME, office.clock.at())
        context = Context(office.clock.at())
        job, step = await _timed(office, say, office.files.export(WHO, form, context))
        package, _ = await office.files.content(WHO, job.id, context)
        await asyncio.to_thread(_take_out, package, form, data)
    say("writing plainly")
    return step, await asyncio.to_thread(_raw_export, form, count, data.with_suffix(".raw"))


async def _in(
    url: str, count: int, data: Path, is_alone: bool, say: Say
) -> tuple[Step | None, Step, float | None, bool]:
    """Dry run, import, undo, or the import alone; whether all rows came in and went again."""
    async with _office(url) as office:
        dry_run = None if is_alone else (await _taken(office, say, data, is_dry_run=True))[1]
        job, taken = await _taken(office, say, data, is_dry_run=False)
        held, _ = await office.db.read(digest_store.root_digest, HOME)
        if is_alone:
            return None, taken, None, held == count
        started_s = time.perf_counter()
        undone = await office.files.undo(WHO, job.id, job.undo_token, Context(office.clock.at()))
        return dry_run, taken, time.perf_counter() - started_s, held == undone[0] == count


def _batches(count: int) -> Iterator[list[DeviceArchive]]:
    for first in range(1, count + 1, BATCH):
        yield sample_archives(HOME, min(BATCH, count + 1 - first), first)


def _made(form: Format, count: int, data: Path) -> None:
    """The data file that an export of ``count`` archives has, without a database."""
    package = data.with_suffix(".zip")
    writer = PackageWriter(package, form)
    for rows in _batches(count):
        writer.add(rows)
    writer.close(Origin(HOME, "bench", 1, SystemClock().at()), frozenset(), Key(CLERK, SECRET))
    _take_out(package, form, data)


@contextmanager
def _databases(engine: str) -> Iterator[tuple[list[str], Path]]:
    """Three empty databases, and a folder, that end with the context."""
    names = ("source", "target", "raw")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tongshi-bench-")))
        if engine == "sqlite":
            yield [f"sqlite:///{folder}/{name}.db" for name in names], folder
        else:
            server = stack.enter_context(private_postgres(AS_ADVISED))
            yield [asyncio.run(create_database(server, name)) for name in names], folder


@asynccontextmanager
async def _office(url: str) -> AsyncIterator[RestPlatform]:
    """A platform of one id, with a clerk who may export and import everything."""
    db = await Database.open(url)
    office = await RestPlatform.open(HOME, db, SystemClock())
    await office.files.start()
    await office.grants.put_key(CLERK, CLERK, SECRET, _RIGHTS)
    actions = frozenset({Permission.ARCHIVE_READ, Permission.ARCHIVE_EXPORT})
    grant = Grant("", SubjectKind.API_KEY, CLERK, actions, ScopeKind.ALL, frozenset())
    await office.grants.give(Subject(SubjectKind.USER, "0", "bench"), grant, Context(office.clock.at()))
    try:
        yield office
    finally:
        await office.files.stop()
        shutil.rmtree(office.files.folder, ignore_errors=True)
        await office.close()


async def _taken(office: RestPlatform, say: Say, data: Path, *, is_dry_run: bool) -> tuple[Job, Step]:
    """Import a copy of ``data``."""
    upload = office.files.folder / "upload"
    await asyncio.to_thread(shutil.copyfile, data, upload)
    by, context = WHO, Context(office.clock.at())
    return await _timed(
        office, say, office.files.take(by, upload, context, dry_run=is_dry_run, is_atomic=False)
    )


async def _timed(office: RestPlatform, say: Say, begun: Awaitable[Seen]) -> tuple[Job, Step]:
    """Wait for a job to end well."""
    by = WHO
    started_s = said_s = time.perf_counter()
    with _Watched() as watched:
        seen = await begun
        while seen.job.state in (JobState.QUEUED, JobState.RUNNING):
            await asyncio.sleep(LOOK_S)
            seen = await office.files.see(by, seen.job.id)
            if time.perf_counter() - said_s > SAY_EVERY_S:
                said_s = time.perf_counter()
                say(_progress(seen))
    spent_s = time.perf_counter() - started_s
    job = seen.job
    assert job.state is JobState.DONE, f"{job.kind} ended {job.state}: {job.error}"
    say(f"{job.kind}: {job.done} rows in {spent_s:.1f} s")
    return job, Step(spent_s, job.done / spent_s, watched.peak_bytes / 2**20)


def _progress(seen: Seen) -> str:
    rate, left = seen.rate or 0.0, seen.remaining_s
    told = "" if left is None else f", {left:.0f} s left"
    return f"{seen.job.kind}: {seen.job.done}/{seen.job.total}, {rate:.0f} rows/s{told}"


class _Watched:
    """The highest private memory of this process; pages of a database that is mapped are the kernel's."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        is_over = False
        while not is_over:
            # The last look is after the end, so that what is over at once was looked at too.
            is_over = self._ended.wait(LOOK_S)
            told = Path("/proc/self/status").read_text(encoding="utf-8")
            private = next(line for line in told.splitlines() if line.startswith("RssAnon"))
            self.peak_bytes = max(self.peak_bytes, int(private.split()[1]) * 1024)


def _take_out(package: Path, form: Format, data: Path) -> None:
    name = f"devices.{form.value}"
    with zipfile.ZipFile(package) as opened, opened.open(name) as member, data.open("wb") as file:
        shutil.copyfileobj(member, file, 1 << 20)


def _raw_export(form: Format, count: int, path: Path) -> float:
    """Seconds to write the rows plainly; making them is not timed."""
    with _plain_writer(form, path) as write:
        return sum(write(rows) for rows in _batches(count))


async def _raw_import(url: str, count: int) -> float:
    """Seconds to load the rows plainly into the table; making them is not timed."""
    columns = tuple(column.name for column in device_archive.columns)
    tail = (
        "owner_platform",
        "revision",
        "source",
        "updated_at",
        "missing_since",
        "origins",
        "shard",
        "digest",
    )
    columns = (*(name for name in columns if name not in tail), *tail)
    bare = await Database.open(url)
    spent_s = 0.0
    for archives in _batches(count):
        flats = [flatten(archive) for archive in archives]
        rows = [(*f.values, f.owner, 1, "file", 0, None, None, f.shard, f.digest) for f in flats]
        started_s = time.perf_counter()
        await bare.write(bulk_upsert, device_archive, columns, rows)
        spent_s += time.perf_counter() - started_s
    await bare.close()
    return spent_s


@contextmanager
def _plain_writer(form: Format, path: Path) -> Iterator[Callable[[Sequence[Any]], float]]:
    """Writes archives and says how long the writing itself took, of rows that are ready."""
    with ExitStack() as stack:
        if form is Format.NDJSON:
            raw = stack.enter_context(path.open("wb"))
            encoder = msgspec.json.Encoder()

            def lines(archives: Sequence[Any]) -> float:
                ready = [wire.to_full(archive) for archive in archives]
                return _clocked(lambda: raw.write(encoder.encode_lines(ready)))

            yield lines
        elif form is Format.PARQUET:
            import pyarrow
            from pyarrow import parquet

            kind = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
            writer = stack.enter_context(parquet.ParquetWriter(path, kind, compression="zstd"))

            def table(archives: Sequence[Any]) -> float:
                ready = [[None if v is None else str(v) for v in cells(archive)] for archive in archives]

                def write() -> None:
                    columns = [pyarrow.array(c, pyarrow.string()) for c in zip(*ready, strict=True)]
                    writer.write_table(pyarrow.Table.from_arrays(columns, schema=kind))

                return _clocked(write)

            yield table
        else:
            text = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            plain = csv.writer(text)

            def rows(archives: Sequence[Any]) -> float:
                ready = [cells(archive) for archive in archives]
                return _clocked(lambda: plain.writerows(ready))

            yield rows


def _clocked(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s
