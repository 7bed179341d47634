"""Rows of a Parquet file as the reading process tells them: ``parquet_child`` decodes, this side judges."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from tongshi.errors import Unprocessable
from tongshi.resources.files import parquet_child
from tongshi.resources.files.csv_rows import header
from tongshi.resources.files.model import (
    MAX_IMPORT_ROWS,
    MAX_INFLATED_BYTES,
    bad_file,
    parquet_missing,
)
from tongshi.resources.files.parquet_writer import is_installed
from tongshi.resources.files.table import NUMERIC, Cell

# Of the reading process; the library itself takes a third of it.
MAX_MEMORY_BYTES = 1 << 30
# A batch holds each distinct cell once: a thousand rows of 64 KiB at most.
_MAX_FRAME_BYTES = 64 * 1024 * 1024
# Whole numbers above this have lost digits where they were decimals.
_EXACT = 10**15
_FAULTS = {
    "long": "单元格过长",
    "encoding": "不是 UTF-8 文本",
    "date": "不是可用的日期",
    "text": "数字已失去精度，该列应为文本",
    "type": "该列应为数值",
}
# What the reading process needs to know of its surroundings, and nothing that is secret.
_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Cell] | Unprocessable]]:
    """Rows with their number, the first being 1: cells by column, or what is wrong with them.

    Raises:
        Unprocessable: the library is missing, the file is broken or swollen, or a column is unknown.
    """
    with _frames(path) as stream:
        yield from _rows(stream)


def count_parquet(path: Path) -> int:
    """How many rows the file says it has."""
    with _frames(path) as stream:
        frame = _frame(stream)
        return int(frame[2]) if frame[0] == "head" else 0


@contextmanager
def _frames(path: Path) -> Iterator[IO[bytes]]:
    if not is_installed():
        raise parquet_missing()
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and module; the path is an argument
        [
            sys.executable,
            "-m",
            parquet_child.__name__,
            str(path),
            str(MAX_IMPORT_ROWS),
            str(MAX_INFLATED_BYTES),
            str(MAX_MEMORY_BYTES),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_surroundings(),
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _rows(stream: IO[bytes]) -> Iterator[tuple[int, dict[str, Cell] | Unprocessable]]:
    names: list[str] = []
    while (frame := _frame(stream))[0] != "end":
        kind, *rest = frame
        if kind == "bad":
            message, rule, row, column = rest
            raise bad_file(message, rule=rule, row=row, column=column)
        if kind == "head":
            names = header(rest[0])
            continue
        first, count, columns = rest
        filled = [
            (name, column[0], column[1])
            for name, column in zip(names, columns, strict=False)
            if column is not None
        ]
        for index in range(count):
            yield first + index, _cells(filled, index, first + index)


def _frame(stream: IO[bytes]) -> list[Any]:
    """The next frame. Raises Unprocessable when the process ended in the middle."""
    head = stream.read(4)
    length = struct.unpack("<I", head)[0] if len(head) == 4 else 0
    if length > _MAX_FRAME_BYTES:
        raise bad_file("一批行过大", rule="parquet-bomb")
    body = stream.read(length)
    if not length or len(body) < length:
        raise bad_file("Parquet 文件使读取进程中止（数据损坏或超过内存、时间上限）", rule="parquet")
    frame: list[Any] = msgspec.msgpack.decode(body)
    return frame


def _cells(
    filled: list[tuple[str, list[Any], list[int | None]]], index: int, number: int
) -> dict[str, Cell] | Unprocessable:
    found: dict[str, Cell] = {}
    for name, cells, places in filled:
        place = places[index]
        if place is None:
            continue
        cell = cells[place]
        fault = cell[0] if isinstance(cell, list) else ""
        if not fault and name not in NUMERIC and isinstance(cell, int | float):
            # Twenty digits that went through a decimal are not what was written.
            is_exact = isinstance(cell, int) or (cell.is_integer() and abs(cell) < _EXACT)
            fault = "" if is_exact else "text"
            cell = str(int(cell)) if is_exact else cell
        if fault:
            message = f"{name}：{_FAULTS.get(fault, fault)}"
            return bad_file(message, rule=fault, row=number, column=name)
        found[name] = cell.strip() if isinstance(cell, str) and name in NUMERIC else cell
    return found


def _surroundings() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # One pool that asks the system and reserves nothing ahead, so that the limit means what it says.
    return {**kept, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
