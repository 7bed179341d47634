"""Jobs, reports and manifests of sharing by file.

Implements: DB31DSJ/Z 001-2024 6.1
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from tongshi.errors import Unprocessable
from tongshi.resources.devices.model import DeviceArchive
from tongshi.web.operations import Answer

# A million archives are 60 to 700 MB, packed as they come.
MAX_UPLOAD_BYTES = 1024 * 1024 * 1024
# Decompressed, over all members that are read: what a zip bomb meets.
MAX_INFLATED_BYTES = 4 * 1024 * 1024 * 1024
MAX_IMPORT_ROWS = 1_000_000
MAX_ATOMIC_ROWS = 20_000
MAX_LINE_BYTES = 64 * 1024
MAX_ERRORS_SHOWN = 1_000
# Rows read, checked and stored at a time.
BATCH = 1_000
MAX_RUNNING = 2
# Jobs kept, running ones and files waiting for their reader.
MAX_JOBS = 1_000
MAX_JOBS_OF_A_CALLER = 50
FILE_KEPT = timedelta(hours=72)
UNDO_KEPT = timedelta(hours=24)


class Format(StrEnum):
    """Forms of a data file. Parquet needs a library of its own (``requirements/parquet.in``)."""

    NDJSON = "ndjson"
    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"


# What needs nothing installed.
ALWAYS = (Format.NDJSON, Format.CSV, Format.XLSX)


class JobKind(StrEnum):
    """What a job does."""

    EXPORT = "export"
    IMPORT = "import"


class JobState(StrEnum):
    """Where a job stands. ``refused``: an import whose rows were looked at and none of which got in."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNDONE = "undone"


FINAL = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}


class RowError(Answer, frozen=True):
    """One row that cannot get in: where it stands, and the rule it breaks. Rows count from 1."""

    sheet: str
    row: int
    column: str
    device_id: str
    code: int
    rule: str
    message: str


class ImportReport(Answer, frozen=True, kw_only=True):
    """What an import did, or in a dry run would do."""

    dry_run: bool
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    errors: list[RowError] = msgspec.field(default_factory=list)
    # Of a neighbour's package: both hold the same afterwards; so many devices of its owner were absent.
    equal: bool | None = None
    missing: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What must be known of a device to judge a row about it."""

    owner: str
    civil_code: str
    revision: int
    digest: bytes
    is_missing: bool


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row of a file: its archive, or why it is none."""

    sheet: str
    number: int
    archive: DeviceArchive | None = None
    error: RowError | None = None


class DataFile(msgspec.Struct, frozen=True, rename="camel"):
    """A member of a package; ``sm3`` is hexadecimal."""

    name: Annotated[str, Meta(max_length=64)]
    size_bytes: Annotated[int, Meta(ge=0)]
    sm3: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class PackageOwner(msgspec.Struct, frozen=True, rename="camel"):
    """Count and digest of one owner's rows in a package; ``is_complete``: it holds no others."""

    owner: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
    count: Annotated[int, Meta(ge=0, le=100_000_000)]
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    is_complete: bool


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a package says of itself; the signature is over its bytes."""

    platform: Annotated[str, Meta(pattern=r"^[0-9]{20}\Z")]
    feed: Annotated[str, Meta(max_length=64)]
    position: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    as_of: Annotated[datetime, Meta(tz=True)]
    count: Annotated[int, Meta(ge=0, le=100_000_000)]
    format: Format
    files: Annotated[list[DataFile], Meta(max_length=16)]
    columns: Annotated[list[str], Meta(max_length=256)]
    owners: Annotated[list[PackageOwner], Meta(max_length=1_000)]
    grants: Annotated[list[str], Meta(max_length=10_000)]
    version: int = 1


class Signature(msgspec.Struct, frozen=True, rename="camel"):
    """HMAC-SM3 of manifest.json with the secret of a key that both sides hold."""

    key_id: Annotated[str, Meta(max_length=64)]
    value: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    algorithm: str = "hmac-sm3"


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is kept.

    ``owner`` is who asked for it, ``kind:id``; ``undo_token`` is empty for what changes nothing.
    """

    id: str
    kind: JobKind
    state: JobState
    owner: str
    format: str
    created_at: datetime
    expires_at: datetime
    done: int = 0
    total: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    size_bytes: int = 0
    digest: str = ""
    grants: tuple[str, ...] = ()
    report: ImportReport | None = None
    undo_token: str = ""


def bad_file(
    message: str, *, rule: str, sheet: str = "", row: int = 0, column: str = "", code: int = 42202
) -> Unprocessable:
    """A file that is refused, with the place and the rule."""
    place: dict[str, object] = {"rule": rule, "sheet": sheet, "row": row, "column": column}
    return Unprocessable(message, code=code, details=place)


def parquet_missing() -> Unprocessable:
    """42203: the library is not there; with what to install and what is supported without it."""
    return Unprocessable(
        "本平台未安装 Parquet 组件：请管理员执行 pip install -r requirements/parquet.txt 后重启平台",
        code=42203,
        field="format",
        details={"supported": list(ALWAYS)},
    )
