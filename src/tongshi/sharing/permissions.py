"""The closed list of permissions, and the roles that carry them from the start.

Implements: DB31DSJ/Z 001-2024 6.4.1
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What an operation asks for; the value is stored and shown."""

    ARCHIVE_READ = "archive:read"
    ARCHIVE_WRITE = "archive:write"
    ARCHIVE_EDIT = "archive:edit"
    ARCHIVE_HISTORY = "archive:history"
    ARCHIVE_EXPORT = "archive:export"
    VIDEO_LIVE = "video:live"
    VIDEO_PLAYBACK = "video:playback"
    VIDEO_DOWNLOAD = "video:download"
    VIDEO_CLOSE = "video:close"
    PTZ_CONTROL = "ptz:control"
    PTZ_RESERVE = "ptz:reserve"
    PTZ_RELEASE_ANY = "ptz:release-any"
    DEVICE_COMMAND = "device:command"
    DEVICE_CONFIG = "device:config"
    DEVICE_MAINTAIN = "device:maintain"
    TALK = "talk"
    BROADCAST = "broadcast"
    ALARM_READ = "alarm:read"
    ALARM_HANDLE = "alarm:handle"
    TAG_READ = "tag:read"
    TAG_WRITE = "tag:write"
    PLAN_READ = "plan:read"
    PLAN_WRITE = "plan:write"
    PLAN_RUN = "plan:run"
    STATUS_READ = "status:read"
    STATUS_WRITE = "status:write"
    SIGNALLING_READ = "signalling:read"
    SIGNALLING_CAPTURE = "signalling:capture"
    SIGNALLING_ADMIN = "signalling:admin"
    EXCHANGE_PUSH = "exchange:push"
    EXCHANGE_PULL = "exchange:pull"
    PLATFORM_READ = "platform:read"
    PLATFORM_ADMIN = "platform:admin"
    USER_ADMIN = "user:admin"
    GRANT_ADMIN = "grant:admin"
    AUDIT_READ = "audit:read"
    EXPLAIN = "explain"


# Actions on one device: the permission opens the operation, a grant says which devices.
DEVICE_ACTIONS: Final = frozenset(
    {
        Permission.ARCHIVE_READ,
        Permission.ARCHIVE_EDIT,
        Permission.ARCHIVE_HISTORY,
        Permission.ARCHIVE_EXPORT,
        Permission.VIDEO_LIVE,
        Permission.VIDEO_PLAYBACK,
        Permission.VIDEO_DOWNLOAD,
        Permission.PTZ_CONTROL,
        Permission.PTZ_RESERVE,
        Permission.PTZ_RELEASE_ANY,
        Permission.DEVICE_COMMAND,
        Permission.DEVICE_CONFIG,
        Permission.DEVICE_MAINTAIN,
        Permission.TALK,
        Permission.BROADCAST,
        Permission.ALARM_READ,
        Permission.ALARM_HANDLE,
        Permission.STATUS_READ,
        Permission.SIGNALLING_READ,
        Permission.SIGNALLING_CAPTURE,
    }
)

_VIEWER = frozenset(
    {
        Permission.ARCHIVE_READ,
        Permission.VIDEO_LIVE,
        Permission.VIDEO_CLOSE,
        Permission.TAG_READ,
        Permission.PLAN_READ,
        Permission.ALARM_READ,
        Permission.STATUS_READ,
        Permission.PLATFORM_READ,
    }
)
_OPERATOR = _VIEWER | {
    Permission.VIDEO_PLAYBACK,
    Permission.VIDEO_DOWNLOAD,
    Permission.PTZ_CONTROL,
    Permission.DEVICE_COMMAND,
    Permission.TALK,
    Permission.BROADCAST,
    Permission.ALARM_HANDLE,
    Permission.TAG_WRITE,
    Permission.PLAN_WRITE,
    Permission.PLAN_RUN,
    Permission.STATUS_WRITE,
    Permission.SIGNALLING_READ,
    Permission.SIGNALLING_CAPTURE,
}
_EXCHANGE = frozenset({Permission.EXCHANGE_PUSH, Permission.EXCHANGE_PULL, Permission.ARCHIVE_READ})

# Role name -> (name for people, permissions).
ROLES: Final[dict[str, tuple[str, frozenset[Permission]]]] = {
    "admin": ("管理员", frozenset(Permission)),
    "operator": ("操作员", _OPERATOR),
    "viewer": ("浏览者", _VIEWER),
    "exchange": ("共享交换", _EXCHANGE),
}
