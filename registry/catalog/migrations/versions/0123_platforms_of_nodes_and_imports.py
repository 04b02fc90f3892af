"""Platforms of nodes, and the platforms that organizations and groups import

Revision: 0123, after 0122
"""

import sqlalchemy as sa
from alembic import op

revision = "0123"
down_revision = "0122"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("platform", sa.String(length=32), nullable=True))
    op.add_column("organizations", sa.Column("platforms", sa.JSON(), nullable=True))
    op.add_column("groups", sa.Column("platforms", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("groups", "platforms")
    op.drop_column("organizations", "platforms")
    op.drop_column("nodes", "platform")
