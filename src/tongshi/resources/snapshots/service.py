"""Snapshots: ordered with rights and a record, received by a path that only the device was told, kept, shown.

Implements: GB/T 28181-2022 9.14
Implements: GB/T 28181-2022 A.2.5.7
The path of an order is a secret: only its digest is stored, it takes as many pictures as were ordered and
ends with the order. A picture that breaks a rule of naming is kept and says so; what is no JPEG is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy import Connection

from tongshi.audit import store as audit
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.clock import Clock
from tongshi.errors import (
    Gone,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PeerFailed,
    TongshiError,
    Unavailable,
    Unprocessable,
)
from tongshi.ids import DeviceId
from tongshi.protocols.gb28181.configuration import Configuration, SnapShotConfig
from tongshi.protocols.gb28181.device_notify import UploadSnapShotFinished
from tongshi.protocols.gb28181.snapshot_name import bare_name
from tongshi.protocols.media import jpeg
from tongshi.resources.control.ports import DeviceTalk
from tongshi.resources.snapshots import store
from tongshi.resources.snapshots.files import PictureFiles
from tongshi.resources.snapshots.model import (
    MAX_ORDERS,
    MAX_PICTURES,
    MAX_WAITING,
    MAX_WAITING_OF_DEVICE,
    Filters,
    Issue,
    Order,
    Origin,
    Person,
    Picture,
    Place,
    State,
    Upload,
    conclude,
    deadline,
    judge_name,
)
from tongshi.resources.viewing.model import StreamKey, StreamType
from tongshi.resources.viewing.ports import Guard, Viewer
from tongshi.sharing.decision import scope_of
from tongshi.sharing.model import Context, Subject
from tongshi.sharing.permissions import Permission
from tongshi.storage.engine import Database

log = structlog.get_logger(__name__)

SWEEP_S: Final = 15.0
SWEEP_AT_ONCE: Final = 200
_NO_PATH = "没有这个上传地址"


class LivePictures(Protocol):
    """Live streams (``viewing.service``)."""

    async def still(self, viewer: Viewer, key: StreamKey, purpose: str) -> bytes:
        """What a stream shows now as JPEG: decided, recorded, and opened when it was not."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long pictures are kept, and how much room they may take."""

    keep: timedelta = timedelta(days=30)
    quota_bytes: int = 2 << 30


class Snapshots:
    """Orders and pictures of this platform.

    Args:
        upload_url: where devices reach the receiver, without a final slash; "" when there is none.
        live: live streams; None where nothing is viewed.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        guard: Guard,
        talk: DeviceTalk,
        files: PictureFiles,
        upload_url: Callable[[], str],
        live: LivePictures | None,
        bounds: Bounds | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._guard = guard
        self._talk = talk
        self._files = files
        self._upload_url = upload_url
        self._live = live
        self._bounds = bounds or Bounds()
        self._total_bytes = 0
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Count what is there, remove files that no record names, and begin to look after deadlines."""
        self._total_bytes = await self._db.read(store.total_bytes)
        for ids in await asyncio.to_thread(lambda: list(self._files.batches())):
            known = await self._db.read(store.known, ids)
            for stray in set(ids) - known:
                await self._files.remove(stray)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        """End looking after deadlines."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None

    # --- Ordering ---------------------------------------------------------------------------------

    async def order(
        self, viewer: Viewer, device_id: DeviceId, count: int, interval_s: int, purpose: str
    ) -> Order:
        """Tell a device to take pictures and to bring them here. A picture is a view: both rights are needed.

        Raises:
            NotFound, Forbidden: the decision. LimitExceeded: too many orders wait.
            Unavailable: no way to the device, or no receiver. Unprocessable: the device's edition has no
            snapshots. PeerTimeout, PeerFailed: the device was silent or refused.
        """
        await self._guard.admit(viewer, Permission.VIDEO_LIVE, device_id, purpose)
        await self._guard.admit(viewer, Permission.DEVICE_COMMAND, device_id, purpose)
        base = self._upload_url()
        if not base:
            raise Unavailable("本平台没有开启抓拍接收服务")
        secret, at = secrets.token_urlsafe(24), self._clock.at()
        order = Order(
            secrets.token_hex(16),
            device_id,
            Place(),
            _person(viewer.subject),
            at,
            deadline(at, count, interval_s),
            count,
            interval_s,
            Origin.DEVICE,
            purpose,
        )
        order = await self._db.write(_begin, order, _digest(secret), viewer)
        wish = SnapShotConfig(
            count=count,
            interval=interval_s,
            upload_url=f"{base}/snapshots/{secret}",
            session_id=order.id,
        )
        try:
            reply = await self._talk.configure(device_id, Configuration(snap_shot_config=wish))
            if reply.is_done is False:
                raise PeerFailed("设备拒绝了抓拍命令", code=50201)
        except TongshiError as error:
            await self._db.write(_fail, order.id, error.message, self._clock.at())
            raise
        return order

    async def capture(
        self, viewer: Viewer, device_id: DeviceId, stream_type: StreamType, purpose: str
    ) -> tuple[Order, Picture]:
        """Keep what a live stream shows now; the device is told nothing but to send it.

        Raises:
            NotFound, Forbidden: the decision. Unprocessable: no decoder here (42203).
            PeerTimeout, PeerFailed, Unavailable, LimitExceeded: no picture came, or no room.
        """
        if self._live is None:
            raise Unprocessable("本平台不能截图", code=42203, details={"supported": []})
        picture = await self._live.still(viewer, StreamKey(device_id, stream_type), purpose)
        return await self.keep(viewer, device_id, picture, purpose)

    async def keep(
        self, viewer: Viewer, device_id: DeviceId, picture: bytes, purpose: str
    ) -> tuple[Order, Picture]:
        """Keep a picture of a stream that this platform took itself; whoever calls has decided."""
        at, size = self._clock.at(), jpeg.measure(picture)
        order = Order(
            secrets.token_hex(16),
            device_id,
            Place(),
            _person(viewer.subject),
            at,
            at,
            origin=Origin.STREAM,
            purpose=purpose,
            state=State.COMPLETE,
            finished_at=at,
        )
        made = _picture(order, Upload("", "", picture, ""), size, at, (), at)
        await self._files.write(made.id, picture)
        try:
            order = await self._db.write(_keep, order, made, viewer)
        except BaseException:
            await self._files.remove(made.id)
            raise
        await self._grown(made.size_bytes)
        return order, made

    # --- Receiving --------------------------------------------------------------------------------

    async def open_path(self, secret: str) -> Order:
        """The order whose pictures may be brought by this path now.

        Raises:
            NotFound: no such path. Gone: it has brought what was ordered, or is over.
        """
        found = await self._db.read(store.by_secret, _digest(secret))
        if found is None:
            raise NotFound(_NO_PATH, code=40400)
        if found.state is not State.WAITING or self._clock.at() > found.deadline_at:
            raise Gone("该上传地址已使用完毕或已过期", code=41002)
        return found

    async def take(self, order: Order, upload: Upload) -> Picture:
        """Keep a picture that a device brought. The same picture brought twice is one.

        Raises:
            InvalidRequest: another order's SessionID. RemoteViolation: no JPEG, or too large.
            Gone: the order is over or has all its pictures. Unavailable: it cannot be stored.
        """
        if upload.session_id and upload.session_id != order.id:
            raise InvalidRequest("SessionID 与抓拍命令不符", field="SessionID")
        size, at = jpeg.measure(upload.data), self._clock.at()
        issues, taken_at = judge_name(upload.file_name, order.device_id, at)
        new = _picture(order, upload, size, at, issues, taken_at)
        await self._files.write(new.id, upload.data)
        try:
            kept = await self._db.write(_take, new)
        except BaseException:
            await self._files.remove(new.id)
            raise
        if kept.id != new.id:
            await self._files.remove(new.id)
            return kept
        log.info("snapshot_received", device_id=order.device_id, order_id=order.id, size=new.size_bytes)
        await self._grown(new.size_bytes)
        return kept

    async def finished(self, told: UploadSnapShotFinished) -> None:
        """A device said what it uploaded; nothing happens when the order is not one of ours."""
        await self._db.write(_finished, told, self._clock.at())

    # --- Showing ----------------------------------------------------------------------------------

    async def page(
        self, subject: Subject, filters: Filters, page_no: int, page_size: int, context: Context
    ) -> tuple[list[tuple[Order, list[Picture]]], int]:
        """One page of what the subject may see, the latest first."""
        return await self._db.read(_page, subject, filters, page_no, page_size, context)

    async def get(self, subject: Subject, order_id: str, context: Context) -> tuple[Order, list[Picture]]:
        """One order and its pictures. Raises NotFound."""
        found = await self._db.read(_get, subject, order_id, context)
        if found is None:
            raise NotFound("抓拍记录不存在", code=40400)
        return found

    async def show(self, viewer: Viewer, picture_id: str) -> tuple[Picture, bytes]:
        """One picture itself: a view, decided and recorded each time. Raises NotFound, Forbidden."""
        picture = await self._db.read(store.picture, picture_id)
        if picture is None:
            raise NotFound("图像不存在", code=40400)
        try:
            await self._guard.admit(viewer, Permission.VIDEO_LIVE, DeviceId(picture.device_id), "snapshot")
        except NotFound as error:
            raise NotFound("图像不存在", code=40400) from error
        data = await self._files.read(picture.id)
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise Unprocessable("图像文件已损坏，与接收时不一致", code=42200)
        return picture, data

    # --- Looking after ----------------------------------------------------------------------------

    async def sweep(self) -> None:
        """End what is overdue, and remove what is too old or too much."""
        at = self._clock.at()
        for order_id in await self._db.read(store.overdue, at, SWEEP_AT_ONCE):
            await self._db.write(_overdue, order_id, at)
        before = at - self._bounds.keep
        await self._drop(await self._db.read(store.oldest, SWEEP_AT_ONCE, before))
        await self._shrink()
        await self._db.write(store.forget_orders, before, MAX_ORDERS, SWEEP_AT_ONCE)

    async def _grown(self, size_bytes: int) -> None:
        self._total_bytes += size_bytes
        await self._shrink()

    async def _shrink(self) -> None:
        """The oldest go when there are too many."""
        while self._total_bytes > self._bounds.quota_bytes:
            oldest = await self._db.read(store.oldest, MAX_PICTURES)
            if not oldest:
                return
            gone: list[Picture] = []
            excess = self._total_bytes - self._bounds.quota_bytes
            for one in oldest:
                if excess <= 0:
                    break
                gone.append(one)
                excess -= one.size_bytes
            await self._drop(gone)

    async def _drop(self, gone: Sequence[Picture]) -> None:
        if not gone:
            return
        await self._db.write(store.remove, gone)
        self._total_bytes = await self._db.read(store.total_bytes)
        for one in gone:
            await self._files.remove(one.id)
        log.info("snapshots_removed", count=len(gone))

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("snapshot_sweep_failed")
            await asyncio.sleep(SWEEP_S)


def _person(subject: Subject) -> Person:
    return Person(subject.kind.value, subject.id, subject.name)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _picture(
    order: Order,
    upload: Upload,
    size: jpeg.Size,
    at: datetime,
    issues: tuple[Issue, ...],
    taken_at: datetime | None,
) -> Picture:
    return Picture(
        secrets.token_hex(16),
        order.id,
        order.device_id,
        1,
        bare_name(upload.file_name)[:128],
        len(upload.data),
        size.width,
        size.height,
        hashlib.sha256(upload.data).hexdigest(),
        at,
        taken_at,
        upload.sender,
        issues=issues,
    )


def _begin(conn: Connection, order: Order, secret_digest: str, viewer: Viewer) -> Order:
    if store.waiting(conn) >= MAX_WAITING:
        raise LimitExceeded("正在进行的抓拍过多", code=42904, retry_after_s=10)
    if store.waiting(conn, order.device_id) >= MAX_WAITING_OF_DEVICE:
        raise LimitExceeded("该设备还有未完成的抓拍，请稍后再试", code=42904, retry_after_s=10)
    placed = replace(order, place=store.place_of(conn, order.device_id))
    store.add_order(conn, placed, secret_digest)
    _audit_order(conn, placed, viewer, {"count": order.count, "intervalSec": order.interval_s})
    return placed


def _keep(conn: Connection, order: Order, picture: Picture, viewer: Viewer) -> Order:
    placed = replace(order, place=store.place_of(conn, order.device_id))
    store.add_order(conn, placed, "")
    store.add_picture(conn, picture)
    _audit_order(conn, placed, viewer, {"pictureId": picture.id, "sha256": picture.sha256})
    return placed


def _audit_order(conn: Connection, order: Order, viewer: Viewer, details: dict[str, object]) -> None:
    entry = audit.AuditEntry(
        order.ordered_at,
        AuditTag.SNAPSHOT_ORDER,
        Outcome.DONE,
        subject_kind=order.by.kind,
        subject_id=order.by.id,
        subject_name=order.by.name,
        object_kind="device",
        object_id=order.device_id,
        address=viewer.client_host,
        request_id=viewer.request_id,
        details={"orderId": order.id, "origin": order.origin.value, "purpose": order.purpose, **details},
    )
    audit.append(conn, entry)


def _take(conn: Connection, new: Picture) -> Picture:
    order = store.order(conn, new.order_id, for_update=True)
    here = store.pictures(conn, new.order_id)
    again = next((one for one in here if one.sha256 == new.sha256 and one.file_name == new.file_name), None)
    if again is not None:
        return again
    if order is None or order.state is not State.WAITING or len(here) + order.removed >= order.count:
        raise Gone("该抓拍命令的图像已收齐或已结束", code=41002)
    issues = new.issues
    if new.file_name and new.file_name in {one.file_name for one in here}:
        issues = (*issues, Issue.NAME_TWICE)
    number = max((one.number for one in here), default=0) + 1
    kept = replace(new, number=number, issues=issues)
    store.add_picture(conn, kept)
    audit.append(
        conn,
        audit.AuditEntry(
            new.received_at,
            AuditTag.SNAPSHOT_UPLOAD,
            Outcome.DONE,
            subject_kind="device",
            subject_id=new.device_id,
            object_kind="snapshot",
            object_id=new.order_id,
            address=new.sender,
            details={"file": new.file_name, "sha256": new.sha256, "issues": [i.value for i in issues]},
        ),
    )
    _settle(conn, order, new.received_at, is_overdue=False)
    return kept


def _finished(conn: Connection, told: UploadSnapShotFinished, at: datetime) -> None:
    order = store.order(conn, told.session_id, for_update=True)
    if order is None or order.device_id != told.device_id or order.state is not State.WAITING:
        return
    names = tuple(bare_name(name)[:128] for name in told.files)
    _settle(conn, replace(order, told=names), at, is_overdue=False)


def _overdue(conn: Connection, order_id: str, at: datetime) -> None:
    order = store.order(conn, order_id, for_update=True)
    if order is not None and order.state is State.WAITING:
        _settle(conn, order, at, is_overdue=True)


def _fail(conn: Connection, order_id: str, reason: str, at: datetime) -> None:
    order = store.order(conn, order_id, for_update=True)
    if order is not None and order.state is State.WAITING:
        store.settle(conn, replace(order, state=State.FAILED, reason=reason, finished_at=at))


def _settle(conn: Connection, order: Order, at: datetime, *, is_overdue: bool) -> None:
    """Note how an order stands, and which of its pictures the device told of."""
    here = store.pictures(conn, order.id)
    state, reason = conclude(order, len(here) + order.removed, is_overdue=is_overdue)
    if order.told is not None:
        for one in here:
            is_told = one.file_name in order.told
            issues = tuple(issue for issue in one.issues if issue is not Issue.UNTOLD)
            store.mark(conn, one.id, issues if is_told else (*issues, Issue.UNTOLD), is_told=is_told)
    finished_at = None if state is State.WAITING and order.told is None else at
    store.settle(conn, replace(order, state=state, reason=reason, finished_at=finished_at))


def _page(
    conn: Connection, subject: Subject, filters: Filters, page_no: int, page_size: int, context: Context
) -> tuple[list[tuple[Order, list[Picture]]], int]:
    scope = scope_of(conn, subject, Permission.VIDEO_LIVE, context)
    return store.page(conn, scope, filters, page_no, page_size)


def _get(
    conn: Connection, subject: Subject, order_id: str, context: Context
) -> tuple[Order, list[Picture]] | None:
    found = store.find(conn, scope_of(conn, subject, Permission.VIDEO_LIVE, context), order_id)
    return None if found is None else (found, store.pictures(conn, order_id))
