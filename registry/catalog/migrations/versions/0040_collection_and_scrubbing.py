"""Collection and scrubbing

Revision: 0040, after 0020
"""

import sqlalchemy as sa
from alembic import op

from registry.catalog.tables import UtcDateTime

revision = "0040"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_pins",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_blob_pins_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "digest", name=op.f("pk_blob_pins")),
    )
    with op.batch_alter_table("blob_pins", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_blob_pins_organization_digest"), ["organization", "digest"], unique=False
        )
    op.create_table(
        "record_marks",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("since", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name=op.f("pk_record_marks")),
    )
    op.create_table(
        "object_marks",
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("since", UtcDateTime(timezone=True), nullable=False),
        sa.Column("condemned_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("removed_at", UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("object_name", name=op.f("pk_object_marks")),
    )
    op.create_table(
        "quarantine",
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("object_name", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "upkeep",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=True),
        sa.Column("lease_until", UtcDateTime(timezone=True), nullable=True),
        sa.Column("cursor", sa.String(length=128), nullable=False),
        sa.Column("finished_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_upkeep")),
    )
    with op.batch_alter_table("versions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_versions_image_id"), ["image_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_versions_image_id"))
    for table in ("upkeep", "quarantine", "object_marks", "record_marks", "blob_pins"):
        op.drop_table(table)
