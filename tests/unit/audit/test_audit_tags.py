"""The closed list of audit tags."""

from __future__ import annotations

from datetime import timedelta

from tongshi.audit.store import RETENTION
from tongshi.audit.tags import AuditTag


def test_tags_are_distinct_lower_case_names() -> None:
    assert len({tag.value for tag in AuditTag}) == len(AuditTag)
    assert all(tag.value == tag.name.lower() for tag in AuditTag)


def test_six_months_are_kept_in_the_longest_reading() -> None:
    assert timedelta(days=183) <= RETENTION
