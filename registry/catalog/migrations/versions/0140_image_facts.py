"""What is stated about images: bills of materials, provenance, base image

Revision: 0140, after 0139
"""

import sqlalchemy as sa
from alembic import op

revision = "0140"
down_revision = "0139"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("facts", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("images", "facts")
