"""Keys and ciphertext of specs; `registry.catalog.plaintext` then encrypts the rows

Revision: 0119, after 0118
"""

import sqlalchemy as sa
from alembic import op

revision = "0119"
down_revision = "0118"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("wrapped_dek", sa.LargeBinary(length=1024), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
        sa.UniqueConstraint("organization", name=op.f("uq_data_keys_organization")),
    )
    for table in ("groups", "versions"):
        op.add_column(table, sa.Column("sealed_spec", sa.LargeBinary(), nullable=True))
        # Not by `add_column`, which would add the constraint with a second statement that SQLite lacks.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN spec_key VARCHAR(36) "
            f"CONSTRAINT fk_{table}_spec_key REFERENCES data_keys (id)"
        )


def downgrade() -> None:
    raise NotImplementedError("restore the catalog from a backup")
