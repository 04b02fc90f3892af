"""Policies for signatures of images, and the verdicts of imports

Revision: 0127, after 0126
"""

import sqlalchemy as sa
from alembic import op

revision = "0127"
down_revision = "0126"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("policies", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization"], ["organizations.name"], name="fk_policies_organization"
        ),
        sa.PrimaryKeyConstraint("organization", name="pk_policies"),
    )
    op.add_column("images", sa.Column("verdict", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("images", "verdict")
    op.drop_table("policies")
