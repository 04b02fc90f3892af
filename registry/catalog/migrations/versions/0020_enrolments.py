"""Enrolments of nodes that are bound by certificate

Revision: 0020, after 0001
"""

import sqlalchemy as sa
from alembic import op

import registry.catalog.tables

revision = "0020"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrolments",
        sa.Column("node_id", sa.String(length=128), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("expires_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.node_id"], name=op.f("fk_enrolments_node_id")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_enrolments")),
    )


def downgrade() -> None:
    op.drop_table("enrolments")
