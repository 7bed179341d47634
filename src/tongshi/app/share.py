"""``tongshi share``: the archive as a database for one grantee, given and taken back."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tongshi.clock import SystemClock
from tongshi.config.sections import Config, load
from tongshi.errors import InvalidRequest
from tongshi.resources.files.views import DatabaseSharing, wanted_grant
from tongshi.sharing.file_keys import FileKeys
from tongshi.sharing.grants import Grants
from tongshi.sharing.model import Subject, SubjectKind
from tongshi.storage.engine import Database

_OPERATOR = Subject(SubjectKind.USER, "command", "命令行")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of both words."""
    parser.add_argument("what", choices=("database", "revoke"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--grantee", required=True, help="id of the key that is given the data")
    parser.add_argument("--scope", default="", help="*, administrative divisions, or 20-digit owners; commas")
    parser.add_argument("--out", type=Path, help="write a SQLite file instead of views")


def run_cli(args: argparse.Namespace) -> int:
    """Run it."""
    return asyncio.run(_run(load(args.config), args))


async def _run(config: Config, args: argparse.Namespace) -> int:
    database = await Database.open(config.storage.url, migrate=False)
    try:
        clock = SystemClock()
        grants = Grants(database, clock)
        sharing = DatabaseSharing(database, clock, grants, FileKeys(database, grants), config.platform.id)
        if args.what == "revoke":
            count = await sharing.revoke(_OPERATOR, args.grantee)
            print(f"已撤销 {count} 项数据库共享授权；已交付的文件无法收回")
            return 0
        if not args.scope:
            raise InvalidRequest("缺少 --scope", field="scope")
        wanted = wanted_grant(args.grantee, args.scope)
        if args.out is not None:
            number, count = await sharing.copy(_OPERATOR, args.grantee, wanted, args.out)
            print(f"{args.out}：{count} 行，授权编号 {number}")
            return 0
        shared = await sharing.share(_OPERATOR, args.grantee, wanted)
        print(f"角色 {shared.role}，视图 {shared.role}.device，授权编号 {shared.grant}")
        print(f"口令（只显示这一次）{shared.password}")
        return 0
    finally:
        await database.close()
