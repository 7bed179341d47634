"""Parquet written as a stream: one row group after another, memory flat, codes as text.

pyarrow is an extra (``requirements/parquet.in``) and is imported when the first package asks for it; without
it the format is refused by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import IO, Any

from tongshi.resources.files.table import COLUMNS, FLOATS, NUMERIC, Cell

# A reader skips and decodes by row group; this many rows of archives are a few megabytes.
ROW_GROUP = 20_000


def is_installed() -> bool:
    """Whether the library is there."""
    return importlib.util.find_spec("pyarrow") is not None


class ParquetWriter:
    """Writes rows in the order of ``COLUMNS`` onto a binary stream that need not seek."""

    def __init__(self, stream: IO[bytes], row_group: int = ROW_GROUP) -> None:
        import pyarrow
        from pyarrow import parquet

        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, _kind(pyarrow, name)) for name in COLUMNS])
        self._sink = pyarrow.PythonFile(stream, mode="w")
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._row_group = row_group
        self._waiting: list[Any] = []
        self._count = 0

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows."""
        if not rows:
            return
        columns = zip(*rows, strict=True)
        arrays = [self._array(field, values) for field, values in zip(self._schema, columns, strict=True)]
        self._waiting.append(self._arrow.record_batch(arrays, schema=self._schema))
        self._count += len(rows)
        if self._count >= self._row_group:
            self._flush()

    def close(self) -> None:
        """End the file; the stream stays open."""
        self._flush()
        self._writer.close()

    def _array(self, field: Any, values: Sequence[Cell]) -> Any:
        if field.name in FLOATS:
            # A column of decimals takes no whole numbers.
            values = [None if value is None else float(value) for value in values]
        try:
            return self._arrow.array(values, type=field.type)
        except UnicodeEncodeError:
            # Half a surrogate is no text.
            return self._arrow.array([_text(value) for value in values], type=field.type)

    def _flush(self) -> None:
        if self._waiting:
            table = self._arrow.Table.from_batches(self._waiting, schema=self._schema)
            self._writer.write_table(table, row_group_size=max(self._count, 1))
        self._waiting, self._count = [], 0


def _kind(arrow: Any, name: str) -> Any:
    if name in FLOATS:
        return arrow.float64()
    return arrow.int64() if name in NUMERIC else arrow.string()


def _text(value: Cell) -> Cell:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
