"""Alembic's entry: migrates on the connection that ``migrate.py`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from tongshi.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
# No transaction of Alembic's own: the caller's unit of work commits schema and version together.
context.run_migrations()
