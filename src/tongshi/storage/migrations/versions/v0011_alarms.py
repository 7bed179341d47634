"""Alarms, whom they are passed on to, and how that went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _code(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False)


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def _integer(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=str(default), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "alarm",
        *(_code(name) for name in ("id", "device_id")),
        _text("name"),
        *(_code(name) for name in ("civil_code", "owner", "source_id")),
        _text("source_kind"),
        *(sa.Column(name, sa.Integer()) for name in ("priority", "method", "alarm_type", "event_type")),
        *(_text(name) for name in ("type_param", "description")),
        *(sa.Column(name, sa.Float()) for name in ("longitude", "latitude")),
        _text("extra", "[]"),
        _text("faults"),
        *(_time(name) for name in ("raised_at", "received_at", "last_at")),
        _integer("repeats"),
        _time("acknowledged_at", nullable=True),
        *(_text(name) for name in ("acknowledged_by", "note")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index(op.f("ix_alarm_received_at_id"), "alarm", ["received_at", "id"])
    op.create_index(op.f("ix_alarm_device_id_received_at"), "alarm", ["device_id", "received_at"])
    op.create_table(
        "alarm_delivery",
        *(_code(name) for name in ("alarm_id", "target_id")),
        _text("state"),
        _integer("tries"),
        _time("at", nullable=True),
        _text("error"),
        sa.PrimaryKeyConstraint("alarm_id", "target_id", name=op.f("pk_alarm_delivery")),
    )
    op.create_index(op.f("ix_alarm_delivery_state"), "alarm_delivery", ["state"])
    op.create_table(
        "alarm_route",
        *(_code(name) for name in ("id", "target_id", "device_id", "civil_code")),
        _text("methods"),
        _integer("lowest_priority", 4),
        _text("created_by"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_route")),
    )
    # The first administrator holds every action on devices, those that came with this version too.
    op.execute(
        sa.text(
            "UPDATE grant_record SET actions = actions || '/alarm:handle/alarm:read/broadcast' "
            "WHERE number = 'G-ADMIN' AND actions NOT LIKE '%alarm:read%'"
        )
    )


def downgrade() -> None:
    for table in ("alarm_route", "alarm_delivery", "alarm"):
        op.drop_table(table)
