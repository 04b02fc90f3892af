"""Secret keys of webhooks, reports about instances, and images that stay for a while

Revision: 0118, after 0117
"""

import sqlalchemy as sa
from alembic import op

revision = "0118"
down_revision = "0117"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_keys",
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("kek_id", sa.String(length=255), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization"], ["organizations.name"], name=op.f("fk_webhook_keys_organization")
        ),
        sa.PrimaryKeyConstraint("organization", name=op.f("pk_webhook_keys")),
    )
    op.add_column("instances", sa.Column("report", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("images", sa.Column("cached_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "groups", sa.Column("image_caching", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    caches = (
        "json_extract(spec, '$.container.image_caching') = 1"
        if op.get_bind().dialect.name == "sqlite"
        else "spec->'container'->>'image_caching' = 'true'"
    )
    op.execute(sa.text(f"UPDATE groups SET image_caching = true WHERE {caches}"))


def downgrade() -> None:
    op.drop_column("groups", "image_caching")
    op.drop_column("images", "cached_at")
    op.drop_column("instances", "report")
    op.drop_table("webhook_keys")
