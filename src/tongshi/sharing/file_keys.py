"""With what packages of files are signed: the secret of a grantee's key, or the platform's own.

Implements: DB31DSJ/Z 001-2024 7.2
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection

from tongshi.errors import NotFound
from tongshi.sharing import store
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Subject
from tongshi.storage.engine import Database

_NAME = "file_key"


class FileKeys:
    """Secrets for packages. Who may use them is decided before."""

    def __init__(self, db: Database, grants: Grants) -> None:
        self._db = db
        self._grants = grants

    async def own(self) -> str:
        """The platform's own secret, made at its first use."""
        return await self._db.write(_own, secrets.token_urlsafe(32))

    async def grantee(self, key_id: str) -> tuple[Subject, str]:
        """Who a usable key stands for, and its secret. Raises NotFound."""
        key = await self._grants.find_key(key_id)
        if key is None or not key.secret:
            raise NotFound("没有这个密钥，或已停用", code=40404)
        return key.subject, key.secret


def _own(conn: Connection, fresh: str) -> str:
    known = store.get_setting(conn, _NAME)
    if known is None:
        store.put_setting(conn, _NAME, fresh)
    return known or fresh
