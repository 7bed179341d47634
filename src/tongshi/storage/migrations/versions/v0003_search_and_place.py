"""Indexes of search and place; rows that exist already are indexed when the platform starts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_search",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("initials", sa.Text(), server_default="", nullable=False),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_device_search")),
        sa.UniqueConstraint("device_id", name=op.f("uq_device_search_device_id")),
    )
    op.create_index(
        "ix_device_search_placeless",
        "device_search",
        ["device_id"],
        sqlite_where=sa.text("longitude IS NULL"),
        postgresql_where=sa.text("longitude IS NULL"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE device_terms USING fts5(terms, content='', detail=none, tokenize='ascii')"
        )
        op.execute("CREATE VIRTUAL TABLE device_box USING rtree(number, west, east, south, north)")
        return
    op.execute("CREATE TABLE device_terms (number integer PRIMARY KEY, terms tsvector NOT NULL)")
    op.execute("CREATE INDEX ix_device_terms_terms ON device_terms USING gin (terms)")
    op.execute("CREATE TABLE device_box (number integer PRIMARY KEY, place point NOT NULL)")
    op.execute("CREATE INDEX ix_device_box_place ON device_box USING gist (place)")
