"""Searching for recordings: the query, its answer in parts, cutting one into parts and collecting them.

Implements: GB/T 28181-2022 9.7
Implements: GB/T 28181-2022 A.2.4.5
Implements: GB/T 28181-2022 A.2.6.7
Implements: GB/T 28181-2022 Annex M

A file is the same file when start, end and path are the same: devices repeat items, and answers of centre and
front end overlap. An answer is complete when as many distinct files came as the largest SumNum said; silence
proves nothing, and what came until then is good but marked incomplete (quirks 6 and 50).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import ClassVar, Final, Literal

import msgspec
from lxml import etree

from tongshi.errors import RemoteViolation
from tongshi.protocols.gb28181 import xml
from tongshi.protocols.gb28181.dates import parse_time, render_time
from tongshi.protocols.gb28181.items import BadItem
from tongshi.protocols.gb28181.message import BaseMessage, Root, read_device_id, read_sn
from tongshi.protocols.gb28181.types import MAX_ID_CHARS
from tongshi.protocols.gb28181.version import Edition

MAX_FILES: Final = 20_000  # of one answer: a day in pieces of five seconds
MAX_FILES_PER_MESSAGE: Final = 10_000  # Annex M
MAX_SIZE_DIGITS: Final = 15
_ENVELOPE_BYTES: Final = 300
_TRUNCATIONS: Final = (0xFFFF, 0xFF)

State = Literal["collecting", "complete", "incomplete"]


class RecordType(Enum):
    """Why something was recorded; the value is the word of RecordInfo."""

    ALL = "all"
    TIME = "time"
    ALARM = "alarm"
    MANUAL = "manual"

    @property
    def uri_code(self) -> int:
        """The parameter of the u= line (G.1)."""
        return {"all": 0, "manual": 1, "alarm": 2, "time": 3}[self.value]

    @classmethod
    def of_word(cls, text: str) -> RecordType:
        """By its word in any case; what is no word of the list counts as ``all``."""
        return next((one for one in cls if one.value == text.lower()), cls.ALL)

    @classmethod
    def of_uri(cls, uri: str | None) -> RecordType:
        """By the u= line ``<id>:<parameter>``; the ordinary form (http) and nonsense ask for all."""
        code = (uri or "").rpartition(":")[2]
        return next((one for one in cls if str(one.uri_code) == code), cls.ALL)


class RecordFile(msgspec.Struct, frozen=True, kw_only=True):
    """itemFileType: one stretch of recording. ``file_size`` is bytes, None when it was not told.

    ``location`` is who stores it: a device or a platform.
    """

    device_id: str
    name: str = ""
    file_path: str = ""
    address: str = ""
    start: datetime
    end: datetime
    secrecy: int = 0
    kind: RecordType = RecordType.TIME
    recorder_id: str = ""
    file_size: int | None = None
    location: str = ""
    stream_number: int | None = None

    @property
    def key(self) -> tuple[datetime, datetime, str]:
        """What makes it the same file."""
        return self.start, self.end, self.file_path


class RecordInfoQuery(BaseMessage, frozen=True):
    """Ask for recordings within a window.

    ``indistinct`` asks for centre and front end together; else the To header says whose storage is meant.
    """

    root: ClassVar[Root] = "Query"
    cmd_type: ClassVar[str] = "RecordInfo"

    start: datetime
    end: datetime
    kind: RecordType = RecordType.ALL
    file_path: str = ""
    address: str = ""
    secrecy: int = 0
    recorder_id: str = ""
    indistinct: bool = False
    stream_number: int | None = None
    alarm_methods: str = ""
    alarm_types: str = ""

    def content(self, edition: Edition) -> str:
        # Type is optional and yet always said: some devices answer nothing without it (quirk 50).
        text = (
            xml.element("StartTime", render_time(self.start))
            + xml.element("EndTime", render_time(self.end))
            + xml.optional("FilePath", self.file_path)
            + xml.optional("Address", self.address)
            + xml.element("Secrecy", self.secrecy)
            + xml.element("Type", self.kind.value)
            + xml.optional("RecorderID", self.recorder_id)
            + xml.element("IndistinctQuery", int(self.indistinct))
        )
        if edition < Edition.GB2022:
            return text
        return (
            text
            + xml.optional("StreamNumber", self.stream_number)
            + xml.optional("AlarmMethod", self.alarm_methods)
            + xml.optional("AlarmType", self.alarm_types)
        )

    @classmethod
    def read(cls, document: xml.Document) -> RecordInfoQuery:
        reader = document.root
        number = reader.integer("streamnumber")
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            start=parse_time(reader.text("starttime")),
            end=parse_time(reader.text("endtime")),
            kind=RecordType.of_word(reader.text("type")),
            file_path=reader.text("filepath"),
            address=reader.text("address"),
            secrecy=reader.integer("secrecy") or 0,
            recorder_id=reader.text("recorderid"),
            indistinct=reader.text("indistinctquery") == "1",
            stream_number=number if number is not None and number >= 0 else None,
            alarm_methods=reader.text("alarmmethod"),
            alarm_types=reader.text("alarmtype"),
        )


class RecordInfoResponse(BaseMessage, frozen=True):
    """A part of an answer. ``sum_num`` counts the whole answer; -1 says that the peer gave no number."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "RecordInfo"

    name: str
    sum_num: int
    files: tuple[RecordFile, ...] = ()
    bad_items: tuple[BadItem, ...] = ()

    def content(self, edition: Edition) -> str:
        files = "\r\n".join([_render_file(file, edition) for file in self.files])
        listed = f'\r\n<RecordList Num="{len(self.files)}">\r\n{files}\r\n</RecordList>' if files else ""
        return xml.element("Name", self.name) + xml.element("SumNum", max(self.sum_num, 0)) + listed

    @classmethod
    def read(cls, document: xml.Document) -> RecordInfoResponse:
        reader = document.root
        record_list = reader.child("recordlist")
        files: list[RecordFile] = []
        bad = [BadItem(-1, "", "not well-formed XML") for _ in document.broken_items]
        for index, element in enumerate(record_list.each("item") if record_list else ()):
            try:
                files.append(_read_file(element, read_device_id(reader)))
            except RemoteViolation as violation:
                bad.append(BadItem(index, "", violation.message))
        sum_num = reader.integer("sumnum")
        return cls(
            sn=read_sn(reader),
            device_id=read_device_id(reader),
            name=reader.text("name"),
            sum_num=sum_num if sum_num is not None and sum_num >= 0 else -1,
            files=tuple(files),
            bad_items=tuple(bad),
        )


class RecordCollector:
    """The parts of one answer, under the SN and DeviceID of the query; silence is counted from each part."""

    def __init__(self, sn: int, device_id: str, now: float, idle_s: float, total_s: float) -> None:
        self.sn = sn
        self.device_id = device_id
        self.state: State = "collecting"
        self.sum_num = -1
        self.bad_count = 0
        self.is_answered = False
        self._files: dict[tuple[datetime, datetime, str], RecordFile] = {}
        self._idle_s = idle_s
        self._idle_at = now + idle_s
        self._total_at = now + total_s

    @property
    def files(self) -> tuple[RecordFile, ...]:
        """The distinct files so far, in order of first appearance."""
        return tuple(self._files.values())

    def add(self, part: RecordInfoResponse, now: float, *, is_only_query: bool = False) -> bool:
        """Take a part. False when it belongs to another query or comes too late.

        Args:
            is_only_query: no other search runs toward that peer, so that a lost SN is forgiven (quirk 7).
        """
        if self.state != "collecting" or not self._belongs(part, is_only_query):
            return False
        self.is_answered = True
        self._idle_at = now + self._idle_s
        self.sum_num = max(self.sum_num, part.sum_num)
        self.bad_count += len(part.bad_items)
        for file in part.files:
            if len(self._files) >= MAX_FILES and file.key not in self._files:
                self.state = "incomplete"
                return True
            self._files.setdefault(file.key, file)
        if self.sum_num >= 0 and len(self._files) + self.bad_count >= self.sum_num:
            self.state = "complete" if not self.bad_count else "incomplete"
        return True

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None once the collection has ended."""
        return min(self._idle_at, self._total_at) if self.state == "collecting" else None

    def handle_timer(self, now: float) -> None:
        """End an answer that stays silent or takes too long."""
        due = self.next_timer()
        if due is not None and now >= due:
            self.state = "incomplete"

    def _belongs(self, part: RecordInfoResponse, is_only_query: bool) -> bool:
        if part.sn == self.sn:
            return True
        if part.device_id != self.device_id:
            return False
        is_cut = any(self.sn > mask and part.sn == self.sn & mask for mask in _TRUNCATIONS)
        return is_cut or (is_only_query and part.sn == 0)


def paginate_records(
    files: Sequence[RecordFile],
    sn: int,
    device_id: str,
    name: str,
    *,
    max_bytes: int,
    edition: Edition = Edition.GB2022,
) -> Iterator[RecordInfoResponse]:
    """Cut an answer into parts with the same SN and the whole SumNum; an empty one is one part with 0.

    Args:
        max_bytes: bound of one body; a file that alone is larger travels alone.
    """
    page: list[RecordFile] = []
    size_bytes = _ENVELOPE_BYTES
    for file in files:
        file_bytes = len(_render_file(file, edition).encode("gb18030", "xmlcharrefreplace")) + 2
        if page and (len(page) >= MAX_FILES_PER_MESSAGE or size_bytes + file_bytes > max_bytes):
            yield RecordInfoResponse(sn, device_id, name, len(files), tuple(page))
            page, size_bytes = [], _ENVELOPE_BYTES
        page.append(file)
        size_bytes += file_bytes
    if page or not files:
        yield RecordInfoResponse(sn, device_id, name, len(files), tuple(page))


def _render_file(file: RecordFile, edition: Edition) -> str:
    number = file.stream_number if edition >= Edition.GB2022 else None
    return (
        "<Item>"
        + xml.element("DeviceID", file.device_id)
        + xml.element("Name", file.name)
        + xml.optional("FilePath", file.file_path)
        + xml.optional("Address", file.address)
        + xml.element("StartTime", render_time(file.start))
        + xml.element("EndTime", render_time(file.end))
        + xml.element("Secrecy", file.secrecy)
        + ("" if file.kind is RecordType.ALL else xml.element("Type", file.kind.value))
        + xml.optional("RecorderID", file.recorder_id)
        + xml.optional("FileSize", None if file.file_size is None else str(file.file_size))
        + xml.optional("RecordLocation", file.location)
        + xml.optional("StreamNumber", number)
        + "</Item>"
    )


def _read_file(element: etree._Element, asked_id: str) -> RecordFile:
    """Read one Item; a file without its two times cannot be placed and is refused."""
    reader = xml.Reader(element)
    start, end = parse_time(reader.text("starttime")), parse_time(reader.text("endtime"))
    if end < start:
        raise RemoteViolation("a recording that ends before it begins", field="EndTime")
    number = reader.integer("streamnumber")
    return RecordFile(
        device_id=reader.text("deviceid")[:MAX_ID_CHARS] or asked_id,
        name=reader.text("name"),
        file_path=reader.text("filepath"),
        address=reader.text("address"),
        start=start,
        end=end,
        secrecy=reader.integer("secrecy") or 0,
        kind=RecordType.of_word(reader.text("type")),
        recorder_id=reader.text("recorderid")[:MAX_ID_CHARS],
        file_size=_size(reader.text("filesize")),
        location=reader.text("recordlocation")[:MAX_ID_CHARS],
        stream_number=number if number is not None and number >= 0 else None,
    )


def _size(text: str) -> int | None:
    """Bytes; 0 says "unknown" as in quirk 69."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_SIZE_DIGITS
    return int(text) or None if is_number else None
