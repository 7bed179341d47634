"""Read-only views for one grantee on PostgreSQL: a role, a schema of its own, one view in it.

The role owns nothing and may read that view alone. The view carries the grant's scope and looks at the grant
itself, so that it is empty from the moment the grant is revoked or over, whoever is still connected. It is a
security barrier: no function of the reader's sees a row that the scope hides.
"""

from __future__ import annotations

import hashlib
import re

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tongshi.errors import Conflict, Forbidden, InvalidRequest
from tongshi.protocols.gb28181.types import ITEM_FIELDS
from tongshi.resources.files.table import COLUMNS
from tongshi.sharing.model import Scope

VIEW = "device"
MAX_CONNECTIONS = 5
MAX_SCOPE_TERMS = 1_000
_DIGITS = re.compile(r"[0-9]{2,20}\Z")
_NUMBER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_ROLE = re.compile(r"share_[a-z0-9_]{1,50}\Z")
# What is not a column of the table as it stands; a flag that was never told is NULL.
_FLAG = "CASE WHEN a.{0} THEN '{1}' WHEN NOT a.{0} THEN '{2}' END"
_COMPUTED = {
    "Status": "CASE WHEN s.is_online THEN 'ON' WHEN NOT s.is_online THEN 'OFF' END",
    "SFKK": _FLAG.format("is_controllable", "1", "0"),
    "JPBH": "a.keyboard_number",
    "DYCCSBIP": "a.storage_device_ip",
    "DYCCSBTD": "a.storage_channel",
    "SXJCJYSZP": "a.scene_photo_url",
    "DWMK": _FLAG.format("has_positioning_module", "1", "0"),
    "LWSX": _FLAG.format("is_networked", "0", "1"),  # quirk Z001-1
    "SSXQGAJG": "a.police_jurisdiction",
    "SSBMHY": "a.industries",
    "sourcePlatform": "a.owner_platform",
    "version": "a.revision",
    "updateTime": "to_timestamp(a.updated_at / 1000.0)",
}


def role_name(platform_id: str, grantee: str) -> str:
    """Role and schema of one grantee of one platform; roles belong to the whole cluster."""
    digest = hashlib.new("sm3", f"{platform_id}\0{grantee}".encode()).hexdigest()[:12]
    return f"share_{re.sub('[^a-z0-9]', '_', grantee.lower())[:30]}_{digest}"


def create(conn: Connection, role: str, password: str, scope: Scope, grant: str) -> None:
    """Make role, schema and view.

    Raises:
        Conflict: they exist; revoke them first.
        Forbidden: our own role may not make roles.
    """
    _check(role, password, grant)
    known = conn.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = $1", (role,)).first()
    if known is not None:
        raise Conflict("该被授权方已有数据库视图，请先撤销", code=40902)
    for statement in (
        f"CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT {MAX_CONNECTIONS} PASSWORD '{password}'",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"ALTER ROLE {role} SET statement_timeout = '60s'",
        f"ALTER ROLE {role} SET search_path = {role}",
        f"CREATE SCHEMA {role}",
        f"CREATE VIEW {role}.{VIEW} WITH (security_barrier = true) AS {_query(scope, grant)}",
        f"GRANT USAGE ON SCHEMA {role} TO {role}",
        f"GRANT SELECT ON {role}.{VIEW} TO {role}",
    ):
        _run(conn, statement)


def drop(conn: Connection, role: str) -> bool:
    """End the role's connections and remove role, schema and view. Returns whether they were there."""
    _check(role)
    known = conn.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = $1", (role,)).first()
    if known is None:
        return False
    _run(conn, f"ALTER ROLE {role} NOLOGIN")
    conn.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", (role,))
    _run(conn, f"DROP SCHEMA {role} CASCADE")
    _run(conn, f"DROP ROLE {role}")
    return True


def _query(scope: Scope, grant: str) -> str:
    plain = {f.wire: f"a.{f.attribute}" for f in ITEM_FIELDS}
    columns = ", ".join(f'{_COMPUTED.get(name, plain.get(name, ""))} AS "{name}"' for name in COLUMNS)
    return (
        f"SELECT {columns} FROM public.device_archive a "  # noqa: S608  # names are ours, values checked
        "LEFT JOIN public.device_status s ON s.device_id = a.device_id "
        f"WHERE a.missing_since IS NULL AND ({_within(scope)}) AND EXISTS ("
        f"SELECT 1 FROM public.grant_record g WHERE g.number = '{grant}' AND g.revoked_at IS NULL "
        "AND (g.valid_to_at IS NULL OR g.valid_to_at > extract(epoch FROM now()) * 1000))"
    )


def _within(scope: Scope) -> str:
    """The scope as SQL; its codes are digits and nothing else, since a view takes no parameters."""
    if scope.is_everything:
        return "true"
    terms: list[str] = []
    for code in sorted(scope.civil_codes | scope.owners | scope.device_ids):
        if not _DIGITS.match(code):
            raise InvalidRequest("数据库视图的范围只能是数字编码", field="scope")
    for code in sorted(scope.civil_codes):
        after = code[:-1] + chr(ord(code[-1]) + 1)
        terms.append(f"(a.civil_code >= '{code}' AND a.civil_code < '{after}')")
    terms += [f"a.owner_platform = '{code}'" for code in sorted(scope.owners)]
    terms += [f"a.device_id = '{code}'" for code in sorted(scope.device_ids)]
    if len(terms) > MAX_SCOPE_TERMS:
        raise InvalidRequest(f"数据库视图的范围最多 {MAX_SCOPE_TERMS} 项", field="scope")
    return " OR ".join(terms) or "false"


def _check(role: str, password: str = "", grant: str = "-") -> None:
    """What goes into a statement as text; nothing else may."""
    is_plain = re.fullmatch(r"[A-Za-z0-9_-]*", password) is not None
    if not _ROLE.match(role) or not _NUMBER.match(grant) or not is_plain:
        raise InvalidRequest("角色名、口令或授权编号含有不允许的字符", field="grantee")


def _run(conn: Connection, statement: str) -> None:
    try:
        conn.exec_driver_sql(statement)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") == "42501":
            raise Forbidden("平台的数据库账号没有创建角色的权限（CREATEROLE）") from error
        raise
