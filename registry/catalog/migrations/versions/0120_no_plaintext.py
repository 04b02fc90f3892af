"""Removal of the plaintext of specs

Revision: 0120, after 0119
"""

import sqlalchemy as sa
from alembic import op

revision = "0120"
down_revision = "0119"
branch_labels = None
depends_on = None


def upgrade() -> None:
    unsealed = "SELECT 1 FROM groups WHERE sealed_spec IS NULL OR CAST(spec AS TEXT) <> '{}'"
    if op.get_bind().execute(sa.text(unsealed)).first() is not None:
        raise RuntimeError("a server of the older version still creates groups: stop it, then start again")
    op.drop_column("groups", "spec")
    op.drop_column("versions", "configuration")


def downgrade() -> None:
    raise NotImplementedError("restore the catalog from a backup")
