"""Unfinished containers, and what organizations imported

Revision: 0070, after 0060
"""

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0070"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partials",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("file_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("wrapped_dek", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("begun_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name=op.f("pk_partials")),
    )
    op.create_table(
        "import_charges",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("charged_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_import_charges")),
    )
    with op.batch_alter_table("import_charges", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_import_charges_organization_charged_at"),
            ["organization", "charged_at"],
            unique=False,
        )


def downgrade() -> None:
    for table in ("import_charges", "partials"):
        op.drop_table(table)
