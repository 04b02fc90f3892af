"""Sidecars and ciphertext digests of blobs in the format OEB2

Revision: 0124, after 0123
"""

import sqlalchemy as sa
from alembic import op

revision = "0124"
down_revision = "0123"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("blob_keys", sa.Column("sidecar_name", sa.String(length=128), nullable=True))
    op.add_column("blob_keys", sa.Column("ciphertext", sa.String(length=135), nullable=True))
    op.create_index("ix_blob_keys_sidecar_name", "blob_keys", ["sidecar_name"])
    op.add_column("partials", sa.Column("sidecar_name", sa.String(length=128), nullable=True))


def downgrade() -> None:
    op.drop_column("partials", "sidecar_name")
    op.drop_index("ix_blob_keys_sidecar_name", "blob_keys")
    op.drop_column("blob_keys", "ciphertext")
    op.drop_column("blob_keys", "sidecar_name")
