"""API keys of their own, instances, webhooks

Revision: 0080, after 0070
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0080"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _part_keys_from_organizations()
    op.add_column("groups", sa.Column("started", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("groups", sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("1")))
    started = "UPDATE groups SET started = autostart WHERE status IN ('pending', 'deploying', 'running')"
    op.execute(sa.text(started))
    _create_instances()
    _create_webhooks()


def downgrade() -> None:
    for table in ("deliveries", "webhooks", "instance_tokens", "instances"):
        op.drop_table(table)
    op.drop_column("groups", "revision")
    op.drop_column("groups", "started")
    op.add_column("organizations", sa.Column("api_key_hash", sa.LargeBinary(length=32), nullable=True))
    one_each = "(SELECT min(key_hash) FROM api_keys WHERE organization = organizations.name)"
    op.execute(sa.text(f"UPDATE organizations SET api_key_hash = {one_each}"))
    op.drop_table("api_keys")


def _part_keys_from_organizations() -> None:
    connection = op.get_bind()
    known = connection.execute(sa.text("SELECT name, api_key_hash, created_at FROM organizations")).all()
    with op.batch_alter_table("organizations", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_organizations_api_key_hash"), type_="unique")
        batch_op.drop_column("api_key_hash")
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization"], ["organizations.name"], name=op.f("fk_api_keys_organization")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(op.f("ix_api_keys_organization"), "api_keys", ["organization"], unique=False)
    insert = sa.text(
        "INSERT INTO api_keys (key_id, organization, name, key_hash, created_at) "
        "VALUES (:key_id, :organization, 'first', :key_hash, :created_at)"
    )
    for name, key_hash, created_at in known:
        row = {"organization": name, "key_hash": key_hash, "created_at": created_at}
        connection.execute(insert, {"key_id": str(uuid4()), **row})


def _create_instances() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("deletion_cost", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("checked_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_instances_group_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("group_id", "node_id", name=op.f("uq_instances_group_id_node_id")),
    )
    op.create_index(op.f("ix_instances_state_checked_at"), "instances", ["state", "checked_at"])
    op.create_table(
        "instance_tokens",
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("instance_id", sa.String(length=36), nullable=False),
        sa.Column("minted_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_tokens_instance_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_instance_tokens")),
    )
    op.create_index(op.f("ix_instance_tokens_instance_id"), "instance_tokens", ["instance_id"])


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("failing_since", UtcDateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization"], ["organizations.name"], name=op.f("fk_webhooks_organization")
        ),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_organization"), "webhooks", ["organization"])
    op.create_table(
        "deliveries",
        sa.Column("message_id", sa.String(length=64), nullable=False),
        sa.Column("webhook_id", sa.String(length=36), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.webhook_id"],
            name=op.f("fk_deliveries_webhook_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_webhook_id"), "deliveries", ["webhook_id"])
    op.create_index(op.f("ix_deliveries_due_at"), "deliveries", ["due_at"])
