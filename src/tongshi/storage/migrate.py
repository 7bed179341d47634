"""Brings a database to this program's schema by Alembic, in the caller's transaction; refuses newer ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tongshi.errors import LocalViolation
from tongshi.storage import changes

_SCRIPTS = Path(__file__).parent / "migrations"
# Any constant will do; it keeps two processes from migrating one PostgreSQL database at once.
_MIGRATION_LOCK = 7_311_001


def upgrade(conn: Connection) -> None:
    """Run outstanding migrations. Raises LocalViolation when the database is newer than this program."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    if _is_current(conn):
        changes.rebase(conn)
        return
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
    changes.rebase(conn)


def check(conn: Connection) -> None:
    """Refuse a database that is not exactly at this program's version."""
    if not _is_current(conn):
        raise LocalViolation("the database schema is older than this program; run the migrations first")


def _is_current(conn: Connection) -> bool:
    known, head = _revisions()
    present = MigrationContext.configure(conn).get_current_revision()
    if present is not None and present not in known:
        raise LocalViolation(f"the database schema {present} is newer than this program; use a newer program")
    return present == head


@cache
def _revisions() -> tuple[frozenset[str], str | None]:
    """Revisions this program knows, and the newest. Reading the scripts is most of an opening."""
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions()), scripts.get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
