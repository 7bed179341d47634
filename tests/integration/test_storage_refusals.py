"""A PostgreSQL that refuses us is told in words with the way out, not by a traceback."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from tongshi.errors import Unavailable
from tongshi.storage.engine import Database


async def test_a_database_that_does_not_exist_is_named(own_postgresql_url: str) -> None:
    url = make_url(own_postgresql_url).set(database="no_such_database")
    with pytest.raises(Unavailable, match="不存在"):
        await Database.open(url.render_as_string(hide_password=False))
