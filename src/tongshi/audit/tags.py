"""The closed list of what is audited.

Implements: DB31DSJ/Z 001-2024 7.3
"""

from __future__ import annotations

from enum import StrEnum


class AuditTag(StrEnum):
    """What happened; the value is stored and never changes its meaning.

    Questions that change nothing end in ``_query``, ``_pull`` or ``_digest`` (``Operation.is_reading``).
    """

    SETUP = "setup"
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SESSION_QUERY = "session_query"
    USER_CHANGE = "user_change"
    KEY_CHANGE = "key_change"
    GRANT_CREATE = "grant_create"
    GRANT_REVOKE = "grant_revoke"
    GRANT_QUERY = "grant_query"
    ACCESS_DECISION = "access_decision"
    ARCHIVE_QUERY = "archive_query"
    ARCHIVE_EXPORT = "archive_export"
    ARCHIVE_CHANGE = "archive_change"
    ARCHIVE_EDIT = "archive_edit"
    ARCHIVE_UNDO = "archive_undo"
    ARCHIVE_MISSING = "archive_missing"
    VIDEO_LIVE = "video_live"
    VIDEO_PLAYBACK = "video_playback"
    VIDEO_CLOSE = "video_close"
    VIDEO_QUERY = "video_query"
    PTZ_CONTROL = "ptz_control"
    PTZ_LOCK = "ptz_lock"
    DEVICE_QUERY = "device_query"
    DEVICE_COMMAND = "device_command"
    DEVICE_CONFIG = "device_config"
    SNAPSHOT_ORDER = "snapshot_order"
    SNAPSHOT_UPLOAD = "snapshot_upload"
    SNAPSHOT_QUERY = "snapshot_query"
    SNAPSHOT_VIEW = "snapshot_view"
    CONTROL_FILTER = "control_filter"
    AUDIO_OPEN = "audio_open"
    AUDIO_CLOSE = "audio_close"
    ALARM_QUERY = "alarm_query"
    ALARM_HANDLE = "alarm_handle"
    ALARM_ROUTE = "alarm_route"
    EXCHANGE_PUSH = "exchange_push"
    EXCHANGE_PULL = "exchange_pull"
    EXCHANGE_DIGEST = "exchange_digest"
    PLATFORM_CHANGE = "platform_change"
    PLATFORM_QUERY = "platform_query"
    PEER_REGISTER = "peer_register"
    SIGNALLING_QUERY = "signalling_query"
    SIGNALLING_CAPTURE = "signalling_capture"
    SIGNALLING_CHANGE = "signalling_change"
    PEER_BAN = "peer_ban"
    PEER_BAN_LIFT = "peer_ban_lift"
    FINGERPRINT_CONFIRM = "fingerprint_confirm"
    ADMISSION_QUERY = "admission_query"
    MEDIA_NODE_QUERY = "media_node_query"
    MEDIA_NODE_CHANGE = "media_node_change"
    AUDIT_QUERY = "audit_query"
    AUDIT_PURGE = "audit_purge"
    PLAN_QUERY = "plan_query"
    PLAN_CHANGE = "plan_change"
    TAG_QUERY = "tag_query"
    TAG_CHANGE = "tag_change"
    TAG_ANNOTATE = "tag_annotate"
    SERVICE_QUERY = "service_query"
    SERVICE_CHANGE = "service_change"
    RECORDING_QUERY = "recording_query"
    RECORDING_RULE = "recording_rule"
    RECORDING_HOLD = "recording_hold"
    RECORDING_BEGIN = "recording_begin"
    RECORDING_DELETE = "recording_delete"
    UNBUILT_OPERATION = "unbuilt_operation"


class Outcome(StrEnum):
    """How it ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    DONE = "done"
    FAILED = "failed"
