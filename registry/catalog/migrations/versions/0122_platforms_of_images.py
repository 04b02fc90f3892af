"""Images for several platforms

Revision: 0122, after 0121
"""

import sqlalchemy as sa
from alembic import op

revision = "0122"
down_revision = "0121"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("index_digest", sa.String(length=135), nullable=True))
    _set_length(255)
    op.create_table(
        "image_platforms",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("platform_image_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_image_platforms_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["platform_image_id"], ["images.id"], name=op.f("fk_image_platforms_platform_image_id")
        ),
        sa.PrimaryKeyConstraint("image_id", "position", name=op.f("pk_image_platforms")),
    )
    with op.batch_alter_table("image_platforms", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_image_platforms_platform_image_id"), ["platform_image_id"], unique=False
        )
    op.add_column("versions", sa.Column("missing_platforms", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("versions", "missing_platforms")
    op.drop_table("image_platforms")
    op.drop_column("images", "index_digest")
    _set_length(64)


def _set_length(length: int) -> None:
    # SQLite does not enforce lengths, and would copy the table, whose removal deletes the contents of images.
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("images", "platform", type_=sa.String(length), existing_nullable=False)
