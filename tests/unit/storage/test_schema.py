"""Rules that every table keeps."""

from __future__ import annotations

from sqlalchemy import BigInteger

from tongshi.storage.schema import metadata


def test_every_table_has_a_primary_key_and_every_time_is_a_bigint() -> None:
    for table in metadata.tables.values():
        assert len(table.primary_key.columns) > 0, table.name
        for column in table.columns:
            if column.name == "at" or column.name.endswith("_at"):
                assert isinstance(column.type, BigInteger), f"{table.name}.{column.name}"


def test_no_column_bears_an_identifier_in_pinyin() -> None:
    pinyin = {"sfkk", "jpbh", "dyccsbip", "dyccsbtd", "sxjcjyszp", "dwmk", "lwsx", "ssxqgajg", "ssbmhy"}
    names = {column.name.lower() for table in metadata.tables.values() for column in table.columns}
    assert not names & pinyin
