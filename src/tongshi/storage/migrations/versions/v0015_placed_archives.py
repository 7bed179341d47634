"""What a map shows of an archive stands beside its position, so that a box reads one row a device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COPIED = (
    ("name", sa.Text()),
    ("civil_code", _CODE),
    ("owner_platform", _CODE),
    ("revision", sa.BigInteger()),
    ("ptz_type", sa.Integer()),
    ("point_type", sa.Integer()),
    ("is_controllable", sa.Boolean()),
    ("is_networked", sa.Boolean()),
    ("industries", sa.Text()),
    ("missing_since", sa.BigInteger()),
)
_STATUS = "device_id, is_online, since_at, last_seen_at, source, reason"


def upgrade() -> None:
    for name, kind in _COPIED:
        op.add_column("device_search", sa.Column(name, kind, nullable=True))
    names = [name for name, _ in _COPIED]
    copies = ", ".join(f"{name} = a.{name}" for name in names)
    # The follower copies what changes from here on; what it has not followed yet is copied anew by it.
    op.execute(
        f"UPDATE device_search SET {copies} FROM device_archive a "  # noqa: S608
        "WHERE a.device_id = device_search.device_id"
    )
    if op.get_bind().dialect.name == "sqlite":
        _make_status("status_anew", "WITHOUT ROWID")
        return
    op.execute("DROP TABLE device_box")
    op.execute(
        "CREATE INDEX ix_device_search_place ON device_search USING gist (point(longitude, latitude)) "
        "WHERE longitude IS NOT NULL"
    )
    # Every row was written anew, and the index has statistics of its own.
    op.execute("ANALYZE device_search")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _make_status("status_anew", "")
    else:
        op.execute("DROP INDEX ix_device_search_place")
        op.execute("CREATE TABLE device_box (number integer PRIMARY KEY, place point NOT NULL)")
        op.execute(
            "INSERT INTO device_box SELECT number, point(longitude, latitude) FROM device_search "
            "WHERE longitude IS NOT NULL"
        )
        op.execute("CREATE INDEX ix_device_box_place ON device_box USING gist (place)")
    with op.batch_alter_table("device_search") as batch:
        for name, _ in _COPIED:
            batch.drop_column(name)


def _make_status(name: str, kind: str) -> None:
    """Make the table of statuses anew as this kind of table; SQLite cannot alter it."""
    op.execute(
        f"CREATE TABLE {name} (device_id TEXT NOT NULL, is_online BOOLEAN NOT NULL, "
        "since_at BIGINT NOT NULL, last_seen_at BIGINT NOT NULL, "
        "source TEXT DEFAULT '' NOT NULL, reason TEXT DEFAULT '' NOT NULL, "
        f"CONSTRAINT pk_device_status PRIMARY KEY (device_id)) {kind}"
    )
    op.execute(f"INSERT INTO {name} ({_STATUS}) SELECT {_STATUS} FROM device_status ORDER BY device_id")  # noqa: S608
    op.execute("DROP TABLE device_status")
    op.execute(f"ALTER TABLE {name} RENAME TO device_status")
