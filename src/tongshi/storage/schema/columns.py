"""Names and kinds of columns that every table shares."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    MetaData,
    Text,
    false,
    true,
)

# Names that do not depend on the engine, so that a migration can name a constraint on both.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Codes are compared byte by byte on both engines: keyset order and prefix ranges must not depend on a locale.
CODE = Text().with_variant(Text(collation="C"), "postgresql")


def text_(name: str, default: str = "") -> Column[str]:
    """Text, never null."""
    return Column(name, Text, nullable=False, server_default=default)


def code(name: str, *, primary_key: bool = False) -> Column[str]:
    """A code, never null, compared byte by byte."""
    return Column(name, CODE, primary_key=primary_key, nullable=False)


def integer(name: str, default: int = 0) -> Column[int]:
    """A number, never null."""
    return Column(name, Integer, nullable=False, server_default=str(default))


def flag(name: str, default: bool) -> Column[bool]:
    """Yes or no, never null."""
    return Column(name, Boolean, nullable=False, server_default=true() if default else false())


def time(name: str, *, nullable: bool = True) -> Column[int]:
    """A time in milliseconds since 1970-01-01 UTC."""
    return Column(name, BigInteger, nullable=nullable)
