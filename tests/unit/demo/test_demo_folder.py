"""The demonstration empties its own folder and nobody else's."""

from pathlib import Path

import pytest

from tongshi.demo.run import empty_folder
from tongshi.errors import InvalidRequest


def test_a_folder_of_something_else_is_not_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("x")
    with pytest.raises(InvalidRequest):
        empty_folder(tmp_path)
    assert precious.exists()


def test_the_folder_of_an_earlier_run_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    empty_folder(folder)
    (folder / "old.log").write_text("x")
    empty_folder(folder)
    assert not (folder / "old.log").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidRequest, match="无法建立演示目录"):
        empty_folder(tmp_path / "file" / "demo")
