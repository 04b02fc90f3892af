"""Whether an import used credentials, so that the form for the next version can suggest them

Revision: 0134, after 0131
"""

import sqlalchemy as sa
from alembic import op

revision = "0134"
down_revision = "0131"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("with_credentials", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "with_credentials")
