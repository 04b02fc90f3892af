"""Encryption keys and container runtimes of nodes

Revision: 0125, after 0124
"""

import sqlalchemy as sa
from alembic import op

revision = "0125"
down_revision = "0124"
branch_labels = None
depends_on = None

_COLUMNS = {
    "encryption_key": 2048,
    "key_thumbprint": 43,
    "previous_encryption_key": 2048,
    "previous_key_thumbprint": 43,
    "runtime": 16,
}


def upgrade() -> None:
    for name, length in _COLUMNS.items():
        op.add_column("nodes", sa.Column(name, sa.String(length=length), nullable=True))


def downgrade() -> None:
    for name in reversed(_COLUMNS):
        op.drop_column("nodes", name)
