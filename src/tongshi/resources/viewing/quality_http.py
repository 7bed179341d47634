"""Row E.2-11, the part of running sessions: how well pictures and sound arrive now.

Implements: DB31DSJ/Z 001-2024 E.2-11
The indicators C1 to C8 of Table C.1 and the levels ``kpi`` and ``device`` are refused aloud (42203): they
need checks of devices over time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.clock import Clock
from tongshi.errors import Unprocessable
from tongshi.resources.viewing.quality import QualityMonitor, Sample
from tongshi.resources.viewing.quality_wire import WireCoding, WireQuality, wire_coding, wire_quality
from tongshi.resources.viewing.wire import WireCodec, wire_codec
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_CivilCode = Annotated[str, Meta(pattern=r"^([0-9]{2}){1,4}\Z")]
_Indicator = Annotated[str, Meta(max_length=16)]


class QualityRequest(Request, frozen=True):
    """E.2-11. Without ``deviceIds`` and ``civilCodes`` every running stream the caller may know of."""

    level: Literal["kpi", "device", "sample"] = "sample"
    indicators: Annotated[list[_Indicator], Meta(max_length=8)] = field(default_factory=list)
    device_ids: Annotated[list[_Id], Meta(max_length=5000)] = field(default_factory=list)
    civil_codes: Annotated[list[_CivilCode], Meta(max_length=100)] = field(default_factory=list)
    page_no: Annotated[int, Meta(ge=1, le=100_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50


class QualityLine(Answer, frozen=True):
    """One running stream. ``step`` is what it waits for, or its last; ``quality`` null is not known.

    ``coding`` is null of what comes as the device sends it.
    """

    device_id: str = field(name="DeviceID")
    stream_id: str
    stream_type: int
    kind: Literal["live", "playback", "download"]
    step: str
    holders: int
    age_sec: float
    codec: WireCodec | None
    quality: WireQuality | None
    coding: WireCoding | None


class QualityList(Answer, frozen=True):
    """E.2-11's answer; ``total`` counts what the caller may know of."""

    rows: list[QualityLine] = field(name="list")
    total: int
    page_no: int
    page_size: int
    sampled_at: datetime


def operations(monitor: QualityMonitor, access: Access, clock: Clock) -> list[AnyOperation]:
    """The row."""

    async def query(call: Call[QualityRequest, Nothing]) -> QualityList:
        body = call.body
        _refuse_indicators(body)
        scope = await access.scope(subject_of(call), Permission.STATUS_READ, context_of(call))
        samples = await monitor.samples(scope, body.device_ids, body.civil_codes)
        start = (body.page_no - 1) * body.page_size
        page = samples[start : start + body.page_size]
        return QualityList([_line(s) for s in page], len(samples), body.page_no, body.page_size, clock.at())

    return [
        Operation(
            name="queryQuality",
            method="POST",
            path="/api/v1/video/quality/query",
            summary="查询音视频质量监测数据",
            permission=Permission.STATUS_READ,
            quota=Quota.QUERY,
            audit=AuditTag.VIDEO_QUERY,
            body=QualityRequest,
            query=Nothing,
            response=QualityList,
            handler=query,
            refusals=(Unprocessable,),
            row="E.2-11",
        )
    ]


def _refuse_indicators(body: QualityRequest) -> None:
    details: dict[str, Any] = {"supported": ["sample"]}
    if body.level != "sample" or body.indicators:
        name = "level" if body.level != "sample" else "indicators"
        message = "表 C.1 的指标（C1～C8）尚不能计算，目前只提供正在运行的码流的质量数据"
        raise Unprocessable(message, code=42203, field=name, details=details)


def _line(sample: Sample) -> QualityLine:
    history = sample.key.history
    kind: Literal["live", "playback", "download"] = "live"
    if history is not None:
        kind = "download" if history.is_download else "playback"
    return QualityLine(
        device_id=sample.key.device_id,
        stream_id=sample.stream_id,
        stream_type=int(sample.key.stream_type),
        kind=kind,
        step=sample.step.value,
        holders=sample.holders,
        age_sec=sample.age_s,
        codec=wire_codec(sample.codec),
        quality=wire_quality(sample.quality),
        coding=wire_coding(sample.coding),
    )
