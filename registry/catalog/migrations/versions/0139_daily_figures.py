"""Sums of each day for charts, and whether a container was started with a token

Revision: 0139, after 0138
"""

import sqlalchemy as sa
from alembic import op

revision = "0139"
down_revision = "0138"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daily_figures",
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("label", sa.String(length=191), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "kind", "day", "label", name="pk_daily_figures"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_daily_figures_kind_label_day", "daily_figures", ["kind", "label", "day"])
    op.create_index(
        "ix_daily_figures_sums", "daily_figures", ["kind", "day", "organization", "label", "amount"]
    )
    op.add_column(
        "instance_tokens", sa.Column("has_run", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("instance_tokens", "has_run")
    op.drop_index("ix_daily_figures_sums", "daily_figures")
    op.drop_index("ix_daily_figures_kind_label_day", "daily_figures")
    op.drop_table("daily_figures")
