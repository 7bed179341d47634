"""The operation table: what an operation is, and the rules a table must keep before anything is served.

Implements: DB31DSJ/Z 001-2024 6.4.3.2
An operation says its name, method, path, types, permission, quota class, audit tag and, if a standard lists
it, its row. Routes, checks and the OpenAPI document are read from the table and from nowhere else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from starlette.responses import FileResponse, Response

from tongshi.errors import TongshiError

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_PUBLIC_BODY_BYTES = 64 * 1024

_PARAMETER = re.compile(r"\{([A-Za-z]+)\}")
_ROW = re.compile(r"E\.[1-4]-[1-9][0-9]?\Z")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every request body and query: lowerCamel names; a field we do not know is refused by name."""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Base of every answer's data: lowerCamel names; a standard's own are spelled by ``field(name=...)``.

    What an answer lists stands in an attribute ``rows``, ``list`` on the wire (see ``Page``).
    """


T = TypeVar("T")


class Page(Answer, Generic[T], frozen=True):
    """One page of a list. ``total`` counts what the caller may see."""

    rows: list[T] = msgspec.field(name="list")
    total: int
    page_no: int
    page_size: int


class Nothing(Request, frozen=True):
    """No body, no query, or an answer without data."""


B = TypeVar("B", bound=msgspec.Struct)
Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct, covariant=True)


class Open(StrEnum):
    """Instead of a permission: who may call an operation that guards nothing of its own."""

    PUBLIC = "public"
    SIGNED_IN = "signed-in"


class Unrecorded(StrEnum):
    """Instead of an audit tag, for public operations that touch no resource (health, the API document)."""

    NOTHING = "not-recorded"


class Quota(Enum):
    """Class of operations: (wire name, Chinese name, calls a minute for one caller, burst).

    The names keep classes of equal rates apart: each has its own buckets and its own quota.
    """

    PUBLIC = ("public", "公开", 60, 20)
    QUERY = ("query", "查询", 1200, 200)
    BULK = ("bulk", "批量", 120, 30)
    VIDEO = ("video", "视频", 300, 60)
    CONTROL = ("control", "控制", 1200, 100)
    EXCHANGE = ("exchange", "交换", 1200, 200)
    ADMIN = ("admin", "管理", 300, 60)

    @property
    def wire_name(self) -> str:
        return self.value[0]

    @property
    def shown_name(self) -> str:
        return self.value[1]

    @property
    def per_minute(self) -> int:
        return self.value[2]

    @property
    def burst(self) -> int:
        return self.value[3]


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """One admitted call.

    ``caller`` is the subject that the gate recognised, None on a public operation; this kit only passes it on
    (``sharing.http.subject_of`` types it). ``file`` is the body of an operation that takes a file, on
    disk until the handler has answered unless it moves it; what ``left`` makes ends when the caller has
    closed its connection.
    """

    caller: object
    body: B
    query: Q
    path: Mapping[str, str]
    headers: Mapping[str, str]
    request_id: str
    client_host: str
    at: datetime
    file: Path | None = None
    left: Callable[[], Awaitable[None]] = _never


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """An answer that needs more than its data.

    ``cookies`` are rendered Set-Cookie values; ``compress`` is as in ``RowsResponse``; ``rows`` counts the
    records of an answer that is no list.
    """

    data: R
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()
    compress: bool | None = None
    rows: int = 0


class RowsResponse(Response):
    """Rows in another form than JSON. ``rows`` is their number, for the audit.

    ``compress`` says whether it is packed with gzip; None leaves it to Accept-Encoding.
    """

    def __init__(
        self,
        content: bytes,
        media_type: str,
        headers: Mapping[str, str],
        *,
        rows: int,
        compress: bool | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=dict(headers))
        self.rows = rows
        self.compress = compress


class RowsFile(FileResponse):
    """A file that holds rows; ``rows`` is their number, for the audit and the quota."""

    def __init__(self, path: Path, media_type: str, filename: str, *, rows: int) -> None:
        super().__init__(
            path, media_type=media_type, filename=filename, headers={"Cache-Control": "no-store"}
        )
        self.rows = rows


Handler = Callable[[Call[B, Q]], Awaitable["R | Reply[R] | Response"]]


_READINGS = ("_query", "_pull", "_digest")


@dataclass(frozen=True, slots=True)
class Operation(Generic[B, Q, R]):
    """One operation of the REST face.

    Attributes:
        name: our name, lowerCamel; the OpenAPI operationId.
        method, path: path carries ``{parameters}`` in lowerCamel.
        summary: the Chinese name, for a standard's operation exactly as the standard prints it.
        permission: a member of the permission enum, or of ``Open``.
        audit: the audit tag written for uses and refusals.
        body, query, response: msgspec structures; ``Nothing`` where there is none.
        row: ``"E.1-2"`` when DB31DSJ/Z 001-2024 Annex E lists it.
        has_side_effect: a GET that changes state: ``no-store``, refused to cookies and prefetchers.
        other_kinds: media types in which the handler may answer besides the envelope, by a ``RowsResponse``.
        is_raw: the handler may answer a Starlette ``Response`` (NDJSON, files) instead of an envelope.
        is_audited_within: the service writes the audit record in the transaction of its change, so that the
            recorder writes refusals only.
        file_folder: the body is a file of any kind and no JSON; it is received there (``Call.file``).
        statuses: what a success may answer.
        media_types: of a raw answer.
        refusals: what may be answered beside that which every operation of its kind may answer.
    """

    name: str
    method: str
    path: str
    summary: str
    permission: StrEnum
    quota: Quota
    audit: StrEnum
    body: type[B]
    query: type[Q]
    response: type[R]
    handler: Handler[B, Q, R]
    row: str | None = None
    has_side_effect: bool = False
    is_raw: bool = False
    other_kinds: tuple[str, ...] = ()
    is_audited_within: bool = False
    is_implemented: bool = True
    max_body_bytes: int = MAX_BODY_BYTES
    file_folder: Path | None = None
    statuses: tuple[int, ...] = (200,)
    media_types: tuple[str, ...] = ()
    refusals: tuple[type[TongshiError], ...] = ()

    @property
    def takes_file(self) -> bool:
        """Whether the body is a file."""
        return self.file_folder is not None

    @property
    def is_reading(self) -> bool:
        """Whether it changes nothing, however often it is called: what is audited is a question."""
        return self.audit.value.endswith(_READINGS)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the path parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))


AnyOperation = Operation[Any, Any, Any]


class BadTable(Exception):
    """The table breaks a rule of its own: the application does not start."""


def check_table(operations: Sequence[AnyOperation]) -> None:
    """Refuse a table that would leave a route unguarded, unclear or doubled.

    Raises:
        BadTable: names every operation at fault and why.
    """
    faults = [fault for operation in operations for fault in _faults_of(operation)]
    for what, key in (
        ("name", lambda o: o.name),
        ("row", lambda o: o.row),
        ("route", lambda o: (o.method, _PARAMETER.sub("{}", o.path))),
    ):
        seen: dict[object, str] = {}
        for operation in operations:
            value = key(operation)
            if value is not None and value in seen:
                faults.append(f"{operation.name}: {what} {value} is already taken by {seen[value]}")
            seen[value] = operation.name
    if faults:
        raise BadTable("; ".join(faults))


def _faults_of(operation: AnyOperation) -> list[str]:
    faults = []
    if not isinstance(operation.permission, StrEnum):
        faults.append("names no permission")
    if not isinstance(operation.audit, StrEnum):
        faults.append("names no audit tag")
    if isinstance(operation.audit, Unrecorded) and operation.permission is not Open.PUBLIC:
        faults.append("is guarded but not recorded")
    if operation.method not in _METHODS:
        faults.append(f"method {operation.method} is not served")
    if not operation.path.startswith("/"):
        faults.append("path does not start with /")
    if operation.row is not None and not _ROW.match(operation.row):
        faults.append(f"row {operation.row} is not a row of Annex E")
    if operation.is_raw is not bool(operation.media_types):
        faults.append("names media types if and only if its answer is raw")
    if operation.method == "GET" and operation.body is not Nothing:
        faults.append("a GET takes no body")
    faults += [
        f"{part.__name__} lets unknown fields through"
        for part in (operation.body, operation.query)
        if not part.__struct_config__.forbid_unknown_fields
    ]
    return [f"{operation.name}: {fault}" for fault in faults]
