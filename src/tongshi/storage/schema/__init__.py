"""Every table, once, for both engines.

Columns carry the model's English names; the standards' names live in wire.py.

Times (``*_at``, ``*_since``) are BIGINT milliseconds since 1970-01-01 UTC (``times.py``). Lists of codes are
text joined by "/", as GB/T 28181 writes them. JSON is text. Each table that grows names what bounds it.
"""

from __future__ import annotations

from tongshi.storage.schema.alarms import alarm, alarm_delivery, alarm_route
from tongshi.storage.schema.calls import kept_answer, key_quota, quota_use
from tongshi.storage.schema.columns import metadata
from tongshi.storage.schema.control import control_filter, ptz_lock, ptz_lock_end
from tongshi.storage.schema.devices import (
    COPIED_COLUMNS,
    ENGINE_INDEXES,
    ENGINE_TABLES,
    EXT_COLUMNS,
    ITEM_COLUMNS,
    PLACELESS,
    archive_issue,
    catalogue_node,
    device_archive,
    device_history,
    device_search,
    device_shard,
    device_status,
    device_teller,
)
from tongshi.storage.schema.exchange import exchange_peer, exchange_snapshot, exchange_snapshot_part
from tongshi.storage.schema.files import file_job, file_undo
from tongshi.storage.schema.plans import plan, plan_catalogue, plan_device
from tongshi.storage.schema.platforms import (
    catalogue_standing,
    open_call,
    peer_fingerprint,
    peer_profile,
    platform,
    registration,
    sip_account,
    sip_ban,
)
from tongshi.storage.schema.recordings import recording_gap, recording_rule, recording_segment
from tongshi.storage.schema.records import audit, audit_head, change
from tongshi.storage.schema.services import media_node_drain, published_service
from tongshi.storage.schema.sharing import (
    api_key,
    api_nonce,
    grant_record,
    role,
    session,
    setting,
    user_account,
    user_role,
)
from tongshi.storage.schema.snapshots import snapshot_order, snapshot_picture, upgrade_order
from tongshi.storage.schema.tags import (
    device_tag,
    device_tag_state,
    tag_define,
    tag_enum,
    tag_group,
    tag_undo,
    tag_undo_device,
)

__all__ = [
    "COPIED_COLUMNS",
    "ENGINE_INDEXES",
    "ENGINE_TABLES",
    "EXT_COLUMNS",
    "ITEM_COLUMNS",
    "PLACELESS",
    "alarm",
    "alarm_delivery",
    "alarm_route",
    "api_key",
    "api_nonce",
    "archive_issue",
    "audit",
    "audit_head",
    "catalogue_node",
    "catalogue_standing",
    "change",
    "control_filter",
    "device_archive",
    "device_history",
    "device_search",
    "device_shard",
    "device_status",
    "device_tag",
    "device_tag_state",
    "device_teller",
    "exchange_peer",
    "exchange_snapshot",
    "exchange_snapshot_part",
    "file_job",
    "file_undo",
    "grant_record",
    "kept_answer",
    "key_quota",
    "media_node_drain",
    "metadata",
    "open_call",
    "peer_fingerprint",
    "peer_profile",
    "plan",
    "plan_catalogue",
    "plan_device",
    "platform",
    "ptz_lock",
    "ptz_lock_end",
    "published_service",
    "quota_use",
    "recording_gap",
    "recording_rule",
    "recording_segment",
    "registration",
    "role",
    "session",
    "setting",
    "sip_account",
    "sip_ban",
    "snapshot_order",
    "snapshot_picture",
    "tag_define",
    "tag_enum",
    "tag_group",
    "tag_undo",
    "tag_undo_device",
    "upgrade_order",
    "user_account",
    "user_role",
]
