"""What a person or a service did, as an audit record: who, from where, with what, when."""

from __future__ import annotations

from collections.abc import Mapping

from tongshi.audit.store import AuditEntry
from tongshi.audit.tags import AuditTag, Outcome
from tongshi.sharing.model import Context, Subject


def deed(
    by: Subject,
    context: Context,
    event: AuditTag,
    object_kind: str,
    object_id: str,
    details: Mapping[str, object],
) -> AuditEntry:
    """The record of something done; append it in the transaction of what it did."""
    return AuditEntry(
        context.at,
        event,
        Outcome.DONE,
        subject_kind=by.kind.value,
        subject_id=by.id,
        subject_name=by.name,
        object_kind=object_kind,
        object_id=object_id,
        address=context.address,
        request_id=context.request_id,
        details=details,
    )
