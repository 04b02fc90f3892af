"""The hash chain over the audit trail

Revision: 0121, after 0120
"""

import sqlalchemy as sa
from alembic import op

revision = "0121"
down_revision = "0120"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "event_hashes",
        sa.Column("cursor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_event_hashes")),
    )
    chain = op.create_table(
        "event_chain",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=True),
        sa.Column("wrapped_key", sa.LargeBinary(length=1024), nullable=True),
        sa.Column("anchor", sa.BigInteger(), nullable=False),
        sa.Column("anchor_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("mac", sa.LargeBinary(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_chain")),
    )
    empty = {"anchor": 0, "anchor_hash": bytes(32), "head": 0, "head_hash": bytes(32)}
    op.bulk_insert(chain, [{"id": 1, **empty}])


def downgrade() -> None:
    op.drop_table("event_chain")
    op.drop_table("event_hashes")
