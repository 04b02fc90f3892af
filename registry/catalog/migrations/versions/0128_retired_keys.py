"""Replaced keys of blobs, which older sessions still use

Revision: 0128, after 0127
"""

import sqlalchemy as sa
from alembic import op

revision = "0128"
down_revision = "0127"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retired_keys",
        sa.Column("tenant", sa.String(length=63), primary_key=True),
        sa.Column("digest", sa.String(length=135), primary_key=True),
        sa.Column("file_id", sa.LargeBinary(length=16), primary_key=True),
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("wrapped_dek", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("sidecar_name", sa.String(length=128), nullable=False),
        sa.Column("ciphertext", sa.String(length=135), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_retired_keys_object_name", "retired_keys", ["object_name"])
    op.create_index("ix_retired_keys_sidecar_name", "retired_keys", ["sidecar_name"])


def downgrade() -> None:
    op.drop_table("retired_keys")
