"""Policies of organizations for encrypted delivery

Revision: 0126, after 0125
"""

import sqlalchemy as sa
from alembic import op

revision = "0126"
down_revision = "0125"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("organizations", sa.Column("encryption", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("organizations", "encryption")
