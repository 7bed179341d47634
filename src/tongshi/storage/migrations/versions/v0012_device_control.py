"""Rights to command and configure devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEW_ACTIONS = "/ptz:reserve/ptz:release-any/device:command/device:config/device:maintain"


def upgrade() -> None:
    # The administrators' own grant carries every action on devices; five are new.
    grant = sa.table("grant_record", sa.column("number", sa.Text()), sa.column("actions", sa.Text()))
    op.execute(
        grant.update().where(grant.c.number == "G-ADMIN").values(actions=grant.c.actions + _NEW_ACTIONS)
    )
