"""Indexes that a million archives want: what counts and grids ask, and the archives without a position."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_PLACELESS = (
    "longitude IS NULL OR latitude IS NULL OR longitude < -180 OR longitude > 180 "
    "OR latitude < -90 OR latitude > 90 OR (longitude = 0 AND latitude = 0)"
)


def upgrade() -> None:
    # The new index begins with the same columns.
    op.drop_index("ix_device_archive_civil_code_device_id", "device_archive")
    op.create_index(
        "ix_device_archive_covering",
        "device_archive",
        [
            "civil_code",
            "device_id",
            "owner_platform",
            "missing_since",
            "is_networked",
            "ptz_type",
            "point_type",
            "longitude",
            "latitude",
        ],
    )
    op.create_index(
        "ix_device_archive_placeless",
        "device_archive",
        ["missing_since", "civil_code", "device_id", "owner_platform"],
        sqlite_where=sa.text(_PLACELESS),
        postgresql_where=sa.text(_PLACELESS),
    )
    op.drop_index("ix_device_search_placeless", "device_search")
