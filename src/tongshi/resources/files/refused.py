"""Every refused row of an import as a CSV that a spreadsheet opens; the job itself shows the first ones.

Written as the rows are refused, so that its length costs no memory; there is none when every row is good.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tongshi.resources.files.csv_rows import guard
from tongshi.resources.files.model import RowError

HEADER = ("工作表", "行号", "列", "设备编码", "错误码", "规则", "说明")


class RefusedRows:
    """Appends to ``path``, which appears with the first row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def add(self, errors: Sequence[RowError]) -> None:
        """Write rows."""
        if not errors:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8-sig", newline="")
            csv.writer(self._file).writerow(HEADER)
        csv.writer(self._file).writerows(
            [guard(value) for value in (e.sheet, e.row, e.column, e.device_id, e.code, e.rule, e.message)]
            for e in errors
        )

    def close(self) -> None:
        """Put down what is left."""
        if self._file is not None:
            self._file.close()
