"""The process that reads a stranger's Parquet file, so that nothing in it can hurt the platform.

A Parquet file says of itself how large its parts are, in two places, and the library that decodes it believes
one of them. What can be told from the footer is checked first; for the rest this process holds its own memory
and time within limits, keeps no secret, and ends by itself when nobody reads. It writes frames onto standard
output, each a length of four bytes and MessagePack: ``["head", names, rows]``, ``["rows", first, count,
columns]`` (a column is null, or the distinct cells and for each row an index or null) and ``["end"]``, or
``["bad", message, rule, row, column]``. A cell that holds no value is a list with the rule it breaks.

Run as ``python -m tongshi.resources.files.parquet_child FILE ROWS BYTES MEMORY``.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

MAX_CPU_S = 900
MAX_FOOTER_BYTES = 16 * 1024 * 1024
MAX_COLUMNS = 256
MAX_ROW_GROUPS = 10_000
MAX_CHUNK_BYTES = 512 * 1024 * 1024
MAX_CELL_BYTES = 32_767
BATCH = 1_000
_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"

Frame = list[Any]


class Bad(Exception):
    """The file is refused: message, rule, row and column."""

    def __init__(self, message: str, rule: str, row: int = 0, column: str = "") -> None:
        super().__init__(message)
        self.frame: Frame = ["bad", message, rule, row, column]


def main() -> int:
    """Read the file that is named and write frames."""
    path = Path(sys.argv[1])
    max_rows, max_bytes, max_memory = map(int, sys.argv[2:5])
    _limit(max_memory)
    write = _writer(sys.stdout.fileno())
    try:
        for frame in read(path, max_rows, max_bytes):
            write(frame)
    except Bad as refusal:
        write(refusal.frame)
    except MemoryError:
        write(["bad", "解码所需内存超过上限，文件可能被构造成解压炸弹", "parquet-bomb", 0, ""])
    return 0


def read(path: Path, max_rows: int, max_bytes: int) -> Iterator[Frame]:
    """Frames of a file. Raises Bad when it is refused, MemoryError when decoding it takes too much."""
    check_footer(path)
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(
            path,
            memory_map=False,
            buffer_size=1 << 16,
            pre_buffer=False,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=1_000_000,
        )
        _check_sizes(file.metadata, max_rows, max_bytes)
        names = _check_schema(pyarrow, file.schema_arrow)
        # Text stays a dictionary, so that one long cell that a million rows repeat is held once.
        texts = [f.name for f in file.schema_arrow if pyarrow.types.is_string(f.type)]
        if texts:
            file = parquet.ParquetFile(
                path,
                memory_map=False,
                buffer_size=1 << 16,
                pre_buffer=False,
                read_dictionary=texts,
                thrift_string_size_limit=MAX_FOOTER_BYTES,
                thrift_container_size_limit=1_000_000,
            )
        yield ["head", names, file.metadata.num_rows]
        done = 0
        for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
            columns = [_column(pyarrow, array) for array in batch.columns]
            yield ["rows", done + 1, batch.num_rows, columns]
            done += batch.num_rows
            if done > max_rows:
                raise Bad(f"超过 {max_rows} 行", "rows", done)
        if done != file.metadata.num_rows:
            raise Bad("行数与文件尾所述不符", "parquet", done)
        yield ["end"]
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, MemoryError):
            raise
        raise Bad("不是完整的 Parquet 文件，或含有损坏的数据页", "parquet") from error


def check_footer(path: Path) -> None:
    """The two marks and the length between them, before any library sees the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        if size < 12 or head not in (_MAGIC, _ENCRYPTED):
            raise Bad("不是 Parquet 文件", "parquet")
        file.seek(-8, os.SEEK_END)
        length, mark = struct.unpack("<I4s", file.read(8))
    if _ENCRYPTED in (head, mark):
        raise Bad("加密的 Parquet 文件不受支持", "parquet-encrypted")
    if mark != _MAGIC:
        raise Bad("Parquet 文件不完整：缺少文件尾标记", "parquet")
    if length > MAX_FOOTER_BYTES or length > size - 12:
        raise Bad("Parquet 文件尾的长度不合法", "parquet-footer")


def _check_sizes(metadata: Any, max_rows: int, max_bytes: int) -> None:
    if metadata.num_columns > MAX_COLUMNS:
        raise Bad(f"列多于 {MAX_COLUMNS}", "columns")
    if metadata.num_row_groups > MAX_ROW_GROUPS:
        raise Bad(f"行组多于 {MAX_ROW_GROUPS}", "parquet-groups")
    if not 0 <= metadata.num_rows <= max_rows:
        raise Bad(f"超过 {max_rows} 行", "rows")
    total = rows = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows += group.num_rows
        for index in range(group.num_columns):
            size = group.column(index).total_uncompressed_size
            total += size
            if not 0 <= size <= MAX_CHUNK_BYTES or total > max_bytes:
                raise Bad("解压后过大", "parquet-bomb")
    if rows != metadata.num_rows:
        raise Bad("各行组的行数之和与总行数不符", "parquet")


def _check_schema(arrow: Any, schema: Any) -> list[str]:
    """Names of columns. A column of a type that holds no cell is named."""
    types = arrow.types
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_null)
    times = (types.is_timestamp, types.is_date)
    for field in schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not any(is_kind(kind) for is_kind in (*plain, *times)):
            raise Bad(f"列 {field.name[:64]} 的类型 {str(kind)[:64]} 不受支持", "type", 1, field.name[:64])
    return [str(name) for name in schema.names]


def _column(arrow: Any, array: Any) -> list[Any] | None:
    """The distinct cells of a column and an index for each row; null when every cell is empty."""
    if array.null_count == len(array):
        return None
    if not arrow.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    from pyarrow import compute

    used = array.indices.drop_null().unique()
    places = compute.index_in(array.indices, value_set=used)
    return [_cells(arrow, compute, array.dictionary.take(used)), places.to_pylist()]


def _cells(arrow: Any, compute: Any, values: Any) -> list[Any]:
    kind = values.type
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
        lengths = compute.binary_length(values)
        if (compute.max(lengths).as_py() or 0) > MAX_CELL_BYTES:
            short = compute.less_equal(lengths, MAX_CELL_BYTES)
            kept = compute.if_else(short, values, arrow.scalar(None, kind))
            longs = [not is_short for is_short in short.to_pylist()]
            return [["long"] if long else cell for long, cell in zip(longs, _listed(kept), strict=True)]
        return _listed(values)
    if arrow.types.is_timestamp(kind) or arrow.types.is_date(kind):
        return [cell if isinstance(cell, list | None) else cell.isoformat() for cell in _listed(values)]
    return _listed(values)


def _listed(values: Any) -> list[Any]:
    try:
        found: list[Any] = values.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return [_one(value) for value in values]
    return found


def _one(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return ["encoding"]
    except (ValueError, OverflowError):
        return ["date"]


def _limit(max_memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _writer(descriptor: int) -> Callable[[Frame], None]:
    encoder = msgspec.msgpack.Encoder()

    def write(frame: Frame) -> None:
        body = encoder.encode(frame)
        view = memoryview(struct.pack("<I", len(body)) + body)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


if __name__ == "__main__":
    sys.exit(main())
