"""A database that cannot be opened is told in words with the way out, not by a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tongshi.errors import InvalidRequest, Unavailable
from tongshi.storage.engine import Database
from tongshi.storage.runner import Limits


async def test_a_database_that_does_not_exist_is_named(own_postgresql_url: str) -> None:
    url = make_url(own_postgresql_url).set(database="no_such_database")
    with pytest.raises(Unavailable, match="不存在"):
        await Database.open(url.render_as_string(hide_password=False))


async def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    letter = tmp_path / "letter.db"
    letter.write_text("this is a letter" * 100)
    for path, words in ((tmp_path / "absent" / "a.db", "所在目录不存在"), (letter, "不是 SQLite 数据库")):
        with pytest.raises(Unavailable, match=words) as refused:
            await Database.open(f"sqlite:///{path}")
        assert str(path) in refused.value.message


async def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable, match=r"连接不上数据库 127\.0\.0\.1:1") as refused:
        await Database.open("postgresql://who:secret-word@127.0.0.1:1/x", limits=Limits(patience_s=0.1))
    assert "secret-word" not in refused.value.message


async def test_what_is_no_database_is_refused_with_the_form_that_is_meant() -> None:
    for url in ("mysql://who@127.0.0.1/x", "tongshi.db"):
        with pytest.raises(InvalidRequest, match="sqlite:///"):
            await Database.open(url)
