"""Variants of images

Revision: 0050, after 0040
"""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(sa.Column("zstd_digest", sa.String(length=135), nullable=True))
        batch_op.add_column(sa.Column("zstd_bytes", sa.BigInteger(), nullable=True))
        batch_op.create_index(batch_op.f("ix_images_zstd_digest"), ["zstd_digest"], unique=False)
    with op.batch_alter_table("image_contents", schema=None) as batch_op:
        batch_op.add_column(sa.Column("variant", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("diff_id", sa.String(length=135), nullable=True))
        batch_op.create_index(batch_op.f("ix_image_contents_diff_id"), ["diff_id"], unique=False)
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reads_zstd", sa.Boolean(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.drop_column("reads_zstd")
    with op.batch_alter_table("image_contents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_contents_diff_id"))
        batch_op.drop_column("diff_id")
        batch_op.drop_column("variant")
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_images_zstd_digest"))
        batch_op.drop_column("zstd_bytes")
        batch_op.drop_column("zstd_digest")
