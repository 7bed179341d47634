"""``tongshi bench files`` measures what it says, over few rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tongshi.bench import files
from tongshi.resources.files.model import Format


@pytest.mark.parametrize("form", list(Format))
async def test_what_goes_out_comes_in_and_is_undone(tmp_path: Path, form: Format) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target", "raw")]
    found = await files.measure(urls, form, 1_200, tmp_path)
    assert found.is_equal
    assert found.export is not None
    assert found.import_ is not None
    assert found.export_ratio
    assert found.import_ratio
    assert found.import_.peak_mib > 10


@pytest.mark.parametrize("only", ["export", "import"])
async def test_one_half_is_measured_alone(tmp_path: Path, only: str) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target", "raw")]
    found = await files.measure(urls, Format.CSV, 300, tmp_path, only)
    assert (found.export is None) is (only == "import")
    assert (found.import_ is None) is (only == "export")
