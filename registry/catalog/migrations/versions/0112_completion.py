"""How it is known that a node has an image, and the blobs that nodes got in earlier sessions

Revision: 0112, after 0110
"""

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0112"
down_revision = "0110"
branch_labels = None
depends_on = None

_OF_INSTANCE = "(SELECT instances.{} FROM instances WHERE instances.id = instance_tokens.instance_id)"


def upgrade() -> None:
    op.add_column("instances", sa.Column("known_by", sa.String(length=16), nullable=True))
    op.add_column(
        "instances", sa.Column("is_watched", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.execute(
        sa.text("UPDATE instances SET is_watched = :yes WHERE state IN ('allocating', 'downloading')")
        .bindparams(sa.bindparam("yes", value=True, type_=sa.Boolean()))
    )
    op.drop_index(op.f("ix_instances_state_checked_at"), table_name="instances")
    op.create_index(op.f("ix_instances_is_watched_checked_at"), "instances", ["is_watched", "checked_at"])
    op.add_column(
        "instance_tokens", sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("1"))
    )
    op.add_column("instance_tokens", sa.Column("image_id", sa.String(length=36), nullable=True))
    op.add_column(
        "instance_tokens", sa.Column("has_ended", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    for column in ("version", "image_id"):
        op.execute(sa.text(f"UPDATE instance_tokens SET {column} = {_OF_INSTANCE.format(column)}"))
    op.create_table(
        "node_blobs",
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("node_id", sa.String(length=128), nullable=False),
        sa.Column("blob", sa.String(length=24), nullable=False),
        sa.Column("delivered_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.node_id"], name=op.f("fk_node_blobs_node_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["organization"],
            ["organizations.name"],
            name=op.f("fk_node_blobs_organization"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("organization", "node_id", "blob", name=op.f("pk_node_blobs")),
    )
    op.create_index(op.f("ix_node_blobs_node_id"), "node_blobs", ["node_id"])


def downgrade() -> None:
    op.drop_table("node_blobs")
    op.drop_column("instance_tokens", "has_ended")
    op.drop_column("instance_tokens", "image_id")
    op.drop_column("instance_tokens", "version")
    op.drop_index(op.f("ix_instances_is_watched_checked_at"), table_name="instances")
    op.create_index(op.f("ix_instances_state_checked_at"), "instances", ["state", "checked_at"])
    op.drop_column("instances", "is_watched")
    op.drop_column("instances", "known_by")
