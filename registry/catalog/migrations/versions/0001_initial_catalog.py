"""Initial catalog

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op

import registry.catalog.tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_keys",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("file_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("wrapped_dek", sa.LargeBinary(length=1024), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name=op.f("pk_blob_keys")),
    )
    with op.batch_alter_table("blob_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_blob_keys_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_blob_keys_kek_id"), ["kek_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_blob_keys_object_name"), ["object_name"], unique=False)

    op.create_table(
        "events",
        sa.Column(
            "cursor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=True),
        sa.Column("token_id", sa.String(length=64), nullable=True),
        sa.Column("node_id", sa.String(length=128), nullable=True),
        sa.Column("cause", sa.String(length=32), nullable=True),
        sa.Column("source", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_organization"), ["organization"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_token_id"), ["token_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_type"), ["type"], unique=False)

    op.create_table(
        "groups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("image", sa.String(length=2048), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("autostart", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_description", sa.Text(), nullable=False),
        sa.Column("status_since", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint(
            "organization", "project", "name", name=op.f("uq_groups_organization_project_name")
        ),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("manifest_digest", sa.String(length=135), nullable=False),
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint(
            "organization", "digest", "platform", name=op.f("uq_images_organization_digest_platform")
        ),
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.String(length=128), nullable=False),
        sa.Column("binding", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(length=64), nullable=True),
        sa.Column("networks", sa.JSON(), nullable=False),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "organizations",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("api_key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_organizations")),
        sa.UniqueConstraint("api_key_hash", name=op.f("uq_organizations_api_key_hash")),
    )
    op.create_table(
        "image_contents",
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_image_contents_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "position", name=op.f("pk_image_contents")),
    )
    with op.batch_alter_table("image_contents", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_contents_digest"), ["digest"], unique=False)

    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(length=2048), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=64), nullable=True),
        sa.Column("lease_until", registry.catalog.tables.UtcDateTime(timezone=True), nullable=True),
        sa.Column("credential_key", sa.LargeBinary(length=256), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=True),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_jobs_group_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_group_id"), ["group_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_state_lease_until"), ["state", "lease_until"], unique=False)

    op.create_table(
        "versions",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("repository", sa.String(length=191), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", registry.catalog.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_versions_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_versions_image_id")),
        sa.PrimaryKeyConstraint("group_id", "version", name=op.f("pk_versions")),
    )
    with op.batch_alter_table("versions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_versions_repository"), ["repository"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_versions_repository"))

    op.drop_table("versions")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_state_lease_until"))
        batch_op.drop_index(batch_op.f("ix_jobs_group_id"))

    op.drop_table("jobs")
    with op.batch_alter_table("image_contents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_contents_digest"))

    op.drop_table("image_contents")
    op.drop_table("organizations")
    op.drop_table("nodes")
    op.drop_table("images")
    op.drop_table("groups")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_type"))
        batch_op.drop_index(batch_op.f("ix_events_token_id"))
        batch_op.drop_index(batch_op.f("ix_events_organization"))

    op.drop_table("events")
    with op.batch_alter_table("blob_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_blob_keys_object_name"))
        batch_op.drop_index(batch_op.f("ix_blob_keys_kek_id"))
        batch_op.drop_index(batch_op.f("ix_blob_keys_digest"))

    op.drop_table("blob_keys")
