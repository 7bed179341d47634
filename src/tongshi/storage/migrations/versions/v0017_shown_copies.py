"""What a map shows of an archive stands in the place index as JSON, so that a box is joined and not made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_PLAIN = (
    ("name", sa.Text()),
    ("revision", sa.BigInteger()),
    ("is_controllable", sa.Boolean()),
    ("is_networked", sa.Boolean()),
)
# The follower of the change feed makes the copies, numbers as JSON has them, from the first archive on;
# meanwhile questions read archives, as they do whenever it is behind.
_ANEW = "DELETE FROM setting WHERE name IN ('search_position', 'search_started', 'search_reached')"


def upgrade() -> None:
    op.add_column("device_search", sa.Column("shown", sa.Text(), nullable=True))
    with op.batch_alter_table("device_search") as batch:
        for name, _ in _PLAIN:
            batch.drop_column(name)
    op.execute(_ANEW)


def downgrade() -> None:
    for name, kind in _PLAIN:
        op.add_column("device_search", sa.Column(name, kind, nullable=True))
    with op.batch_alter_table("device_search") as batch:
        batch.drop_column("shown")
    op.execute(_ANEW)
