"""From where blobs were verified

Revision: 0060, after 0050
"""

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0060"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_origins",
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("registry", sa.String(length=261), nullable=False),
        sa.Column("verified_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", "registry", name=op.f("pk_blob_origins")),
    )


def downgrade() -> None:
    op.drop_table("blob_origins")
