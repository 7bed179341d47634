"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("secret", sa.Text(), server_default="", nullable=False),
        sa.Column("platform_id", sa.Text(), server_default="", nullable=False),
        sa.Column("permissions", sa.Text(), server_default="", nullable=False),
        sa.Column("addresses", sa.Text(), server_default="", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_table(
        "api_nonce",
        sa.Column("key_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "nonce", name=op.f("pk_api_nonce")),
    )
    with op.batch_alter_table("api_nonce", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_nonce_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "audit",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_id", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_name", sa.Text(), server_default="", nullable=False),
        sa.Column("object_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("object_id", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("grant_number", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("details", sa.Text(), server_default="{}", nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_object_id_seq"), ["object_id", "seq"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_subject_id_seq"), ["subject_id", "seq"], unique=False)

    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("first_hash", sa.LargeBinary(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "change",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("op", sa.Text(), server_default="", nullable=False),
        sa.Column("origin", sa.Text(), server_default="", nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_change")),
    )
    op.create_table(
        "device_archive",
        sa.Column("device_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("manufacturer", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("civil_code", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=True),
        sa.Column("block", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("parental", sa.BigInteger(), nullable=True),
        sa.Column("parent_ids", sa.Text(), nullable=True),
        sa.Column("register_way", sa.BigInteger(), nullable=True),
        sa.Column("security_level_code", sa.Text(), nullable=True),
        sa.Column("secrecy", sa.BigInteger(), nullable=True),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("port", sa.BigInteger(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("business_group_id", sa.Text(), nullable=True),
        sa.Column("ptz_type", sa.BigInteger(), nullable=True),
        sa.Column("photoelectric_imaging_types", sa.Text(), nullable=True),
        sa.Column("capture_position_type", sa.Text(), nullable=True),
        sa.Column("room_type", sa.BigInteger(), nullable=True),
        sa.Column("supply_light_type", sa.BigInteger(), nullable=True),
        sa.Column("direction_type", sa.BigInteger(), nullable=True),
        sa.Column("resolutions", sa.Text(), nullable=True),
        sa.Column("stream_numbers", sa.Text(), nullable=True),
        sa.Column("download_speeds", sa.Text(), nullable=True),
        sa.Column("svc_space_support_mode", sa.BigInteger(), nullable=True),
        sa.Column("svc_time_support_mode", sa.BigInteger(), nullable=True),
        sa.Column("ssvc_ratios", sa.Text(), nullable=True),
        sa.Column("mobile_device_type", sa.BigInteger(), nullable=True),
        sa.Column("horizontal_field_angle", sa.Float(), nullable=True),
        sa.Column("vertical_field_angle", sa.Float(), nullable=True),
        sa.Column("max_view_distance", sa.Float(), nullable=True),
        sa.Column("grassroots_code", sa.Text(), nullable=True),
        sa.Column("point_type", sa.BigInteger(), nullable=True),
        sa.Column("point_common_name", sa.Text(), nullable=True),
        sa.Column("mac", sa.Text(), nullable=True),
        sa.Column("function_types", sa.Text(), nullable=True),
        sa.Column("encode_type", sa.Text(), nullable=True),
        sa.Column("install_time", sa.Text(), nullable=True),
        sa.Column("management_unit", sa.Text(), nullable=True),
        sa.Column("contact_info", sa.Text(), nullable=True),
        sa.Column("record_save_days", sa.BigInteger(), nullable=True),
        sa.Column("industrial_classification", sa.Text(), nullable=True),
        sa.Column("is_controllable", sa.Boolean(), nullable=True),
        sa.Column("keyboard_number", sa.Text(), nullable=True),
        sa.Column("storage_device_ip", sa.Text(), nullable=True),
        sa.Column("storage_channel", sa.Text(), nullable=True),
        sa.Column("scene_photo_url", sa.Text(), nullable=True),
        sa.Column("has_positioning_module", sa.Boolean(), nullable=True),
        sa.Column("is_networked", sa.Boolean(), nullable=True),
        sa.Column("police_jurisdiction", sa.Text(), nullable=True),
        sa.Column("industries", sa.Text(), nullable=True),
        sa.Column(
            "owner_platform", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("missing_since", sa.BigInteger(), nullable=True),
        sa.Column("shard", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_archive")),
    )
    with op.batch_alter_table("device_archive", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_device_archive_civil_code_device_id"), ["civil_code", "device_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_device_archive_owner_platform_device_id"),
            ["owner_platform", "device_id"],
            unique=False,
        )

    op.create_table(
        "device_shard",
        sa.Column(
            "owner_platform", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("shard", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("owner_platform", "shard", name=op.f("pk_device_shard")),
    )
    op.create_table(
        "device_status",
        sa.Column("device_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("is_online", sa.Boolean(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_status")),
    )
    op.create_table(
        "exchange_peer",
        sa.Column(
            "platform_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cursor", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("digest_state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("lag", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("last_success_at", sa.BigInteger(), nullable=True),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("platform_id", "direction", name=op.f("pk_exchange_peer")),
    )
    op.create_table(
        "exchange_snapshot",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("peer", sa.Text(), server_default="", nullable=False),
        sa.Column("direction", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("row_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("last_key", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchange_snapshot")),
    )
    with op.batch_alter_table("exchange_snapshot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_exchange_snapshot_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "exchange_snapshot_part",
        sa.Column(
            "snapshot_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("first_key", sa.Text(), server_default="", nullable=False),
        sa.Column("last_key", sa.Text(), server_default="", nullable=False),
        sa.Column("row_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", "number", name=op.f("pk_exchange_snapshot_part")),
    )
    op.create_table(
        "grant_record",
        sa.Column("number", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("subject_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_id", sa.Text(), server_default="", nullable=False),
        sa.Column("actions", sa.Text(), server_default="", nullable=False),
        sa.Column("scope_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("scope_values", sa.Text(), server_default="", nullable=False),
        sa.Column("valid_from_at", sa.BigInteger(), nullable=True),
        sa.Column("valid_to_at", sa.BigInteger(), nullable=True),
        sa.Column("hours", sa.Text(), server_default="", nullable=False),
        sa.Column("is_sensitive", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_grant_record")),
    )
    with op.batch_alter_table("grant_record", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_grant_record_subject_kind_subject_id"),
            ["subject_kind", "subject_id"],
            unique=False,
        )

    op.create_table(
        "platform",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("relation", sa.Text(), server_default="", nullable=False),
        sa.Column("sip_host", sa.Text(), server_default="", nullable=False),
        sa.Column("sip_port", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sip_transport", sa.Text(), server_default="udp", nullable=False),
        sa.Column("realm", sa.Text(), server_default="", nullable=False),
        sa.Column("username", sa.Text(), server_default="", nullable=False),
        sa.Column("secret", sa.Text(), server_default="", nullable=False),
        sa.Column("rest_url", sa.Text(), server_default="", nullable=False),
        sa.Column("rest_key", sa.Text(), server_default="", nullable=False),
        sa.Column("rest_secret", sa.Text(), server_default="", nullable=False),
        sa.Column("profile", sa.Text(), server_default="{}", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_online", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=True),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platform")),
    )
    op.create_table(
        "registration",
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("port", sa.Integer(), server_default="0", nullable=False),
        sa.Column("transport", sa.Text(), server_default="udp", nullable=False),
        sa.Column("contact", sa.Text(), server_default="", nullable=False),
        sa.Column("call_id", sa.Text(), server_default="", nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("edition", sa.Text(), server_default="", nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registration")),
    )
    with op.batch_alter_table("registration", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_registration_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "role",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), server_default="", nullable=False),
        sa.Column("permissions", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_role")),
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("csrf_token", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_session_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_session_user_id"), ["user_id"], unique=False)

    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "sip_account",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("code", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("username", sa.Text(), server_default="", nullable=False),
        sa.Column("secret", sa.Text(), server_default="", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "code", name=op.f("pk_sip_account")),
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), server_default="", nullable=False),
        sa.Column("organisation", sa.Text(), server_default="", nullable=False),
        sa.Column("password_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until_at", sa.BigInteger(), nullable=True),
        sa.Column("password_changed_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("name", name=op.f("uq_user_account_name")),
    )
    op.create_table(
        "user_role",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "role", name=op.f("pk_user_role")),
    )
    # The audit chain begins at number 0 with 32 zero bytes; writers lock this row.
    op.bulk_insert(
        sa.table(
            "audit_head",
            *(sa.column(name) for name in ("id", "first_seq", "first_hash", "last_seq", "last_hash")),
        ),
        [{"id": 1, "first_seq": 0, "first_hash": bytes(32), "last_seq": 0, "last_hash": bytes(32)}],
    )


def downgrade() -> None:
    op.drop_table("user_role")
    op.drop_table("user_account")
    op.drop_table("sip_account")
    op.drop_table("setting")
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_session_user_id"))
        batch_op.drop_index(batch_op.f("ix_session_expires_at"))

    op.drop_table("session")
    op.drop_table("role")
    with op.batch_alter_table("registration", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_registration_expires_at"))

    op.drop_table("registration")
    op.drop_table("platform")
    with op.batch_alter_table("grant_record", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_grant_record_subject_kind_subject_id"))

    op.drop_table("grant_record")
    op.drop_table("exchange_snapshot_part")
    with op.batch_alter_table("exchange_snapshot", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_exchange_snapshot_expires_at"))

    op.drop_table("exchange_snapshot")
    op.drop_table("exchange_peer")
    op.drop_table("device_status")
    op.drop_table("device_shard")
    with op.batch_alter_table("device_archive", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_device_archive_owner_platform_device_id"))
        batch_op.drop_index(batch_op.f("ix_device_archive_civil_code_device_id"))

    op.drop_table("device_archive")
    op.drop_table("change")
    op.drop_table("audit_head")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_subject_id_seq"))
        batch_op.drop_index(batch_op.f("ix_audit_object_id_seq"))
        batch_op.drop_index(batch_op.f("ix_audit_at"))

    op.drop_table("audit")
    with op.batch_alter_table("api_nonce", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_nonce_expires_at"))

    op.drop_table("api_nonce")
    op.drop_table("api_key")
