"""Deferred import jobs: when the delayed retry may begin

Revision: 0110, after 0100
"""

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0110"
down_revision = "0100"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("deferred_until", UtcDateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "deferred_until")
