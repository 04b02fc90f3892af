"""Edge caches, and ciphertexts by their digest

Revision: 0131, after 0128
"""

import sqlalchemy as sa
from alembic import op

revision = "0131"
down_revision = "0128"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "edges",
        sa.Column("name", sa.String(length=63), primary_key=True),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("serves", sa.JSON(), nullable=False),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("key_hash", name="uq_edges_key_hash"),
    )
    op.create_index("ix_blob_keys_ciphertext", "blob_keys", ["ciphertext"])
    op.create_index("ix_retired_keys_ciphertext", "retired_keys", ["ciphertext"])


def downgrade() -> None:
    op.drop_index("ix_retired_keys_ciphertext", "retired_keys")
    op.drop_index("ix_blob_keys_ciphertext", "blob_keys")
    op.drop_table("edges")
