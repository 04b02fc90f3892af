"""Scopes of API keys, and their last use

Revision: 0138, after 0134
"""

import sqlalchemy as sa
from alembic import op

revision = "0138"
down_revision = "0134"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scope", sa.String(length=16), nullable=False, server_default="full"))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "scope")
