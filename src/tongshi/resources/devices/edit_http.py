"""Changing one record of this platform and putting it back; extensions, no rows of Annex E.

Implements: DB31DSJ/Z 001-2024 6.2.2
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta, field

from tongshi.audit.tags import AuditTag
from tongshi.errors import Conflict, Gone, InvalidRequest
from tongshi.resources.devices.detail_wire import EditAsked, FieldChange, shown_change, wanted
from tongshi.resources.devices.editing import Edited, Editing, Editor, Terms, Until
from tongshi.resources.devices.rules.check import check
from tongshi.resources.devices.rules.model import Issue
from tongshi.resources.devices.service import DeviceArchives
from tongshi.sharing.decision import Access
from tongshi.sharing.gate import context_of, subject_of
from tongshi.sharing.model import Target
from tongshi.sharing.permissions import Permission
from tongshi.web.operations import Answer, AnyOperation, Call, Nothing, Operation, Quota, Request

_Number = Annotated[int, Meta(ge=1, le=2**53)]


class UndoAsked(Request, frozen=True):
    """How far back: to a version (``toVersion``), or to before the history row ``number``; one of the two."""

    to_version: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    number: _Number | None = None
    if_version: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    dry_run: bool = False


class EditResult(Answer, frozen=True):
    """What changed, or of a dry run would change; positions are WGS 84.

    Without differences nothing is written. ``issues`` are those of the record afterwards.
    """

    device_id: str = field(name="DeviceID")
    version: int
    dry_run: bool
    is_written: bool = field(name="written")
    changes: list[FieldChange]
    issues: list[Issue]


def operations(devices: DeviceArchives, editing: Editing, access: Access) -> list[AnyOperation]:
    """The operations that change one record."""

    async def edit(call: Call[Any, Nothing]) -> EditResult:
        body, editor = call.body, await editor_of(call)
        terms = Terms(body.if_version, body.dry_run)
        done = await editing.edit(editor, call.path["deviceId"], lambda held: wanted(body, held), terms)
        return _result(call, done, body.dry_run)

    async def undo(call: Call[UndoAsked, Nothing]) -> EditResult:
        body, editor = call.body, await editor_of(call)
        if (body.to_version is None) is (body.number is None):
            raise InvalidRequest("toVersion 与 number 须给出其一", field="toVersion")
        until, terms = Until(body.to_version, body.number), Terms(body.if_version, body.dry_run)
        done = await editing.undo(editor, call.path["deviceId"], until, terms)
        return _result(call, done, body.dry_run)

    async def editor_of(call: Call[Any, Nothing]) -> Editor:
        """The caller, once it is decided that he may change this device."""
        subject, context = subject_of(call), context_of(call)
        archive = await devices.find(call.path["deviceId"])
        target = None
        if archive is not None:
            target = Target(archive.device_id, archive.item.civil_code, archive.owner)
        await access.require(subject, Permission.ARCHIVE_EDIT, target, context)
        return Editor(subject, await access.scope(subject, Permission.ARCHIVE_EDIT, context), context)

    def operation(
        name: str,
        method: str,
        path: str,
        summary: str,
        audit: AuditTag,
        body: type[Any],
        handler: Callable[[Call[Any, Nothing]], Awaitable[EditResult]],
    ) -> AnyOperation:
        return Operation(
            name=name,
            method=method,
            path=f"/api/v1/archive/devices/{{deviceId}}{path}",
            summary=summary,
            permission=Permission.ARCHIVE_EDIT,
            quota=Quota.ADMIN,
            audit=audit,
            body=body,
            query=Nothing,
            response=EditResult,
            handler=handler,
            is_audited_within=True,
            refusals=(Conflict, Gone),
        )

    return [
        operation("editDevice", "PATCH", "", "修改本平台设备档案", AuditTag.ARCHIVE_EDIT, EditAsked, edit),
        operation(
            "undoDevice", "POST", "/undo", "撤销设备档案的修改", AuditTag.ARCHIVE_UNDO, UndoAsked, undo
        ),
    ]


def _result(call: Call[Any, Any], done: Edited, is_dry_run: bool) -> EditResult:
    archive = done.archive
    return EditResult(
        archive.device_id,
        archive.revision,
        is_dry_run,
        done.is_written,
        [shown_change(change) for change in done.differences],
        list(check(archive, call.at)),
    )
