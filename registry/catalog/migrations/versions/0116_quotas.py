"""Quotas of organizations, and what a group counts for

Revision: 0116, after 0112
"""

import sqlalchemy as sa
from alembic import op

revision = "0116"
down_revision = "0112"
branch_labels = None
depends_on = None

_QUOTAS = (
    "groups",
    "replicas",
    "spec_bytes",
    "creations_per_minute",
    "reallocations_per_minute",
    "image_bytes",
    "stored_bytes",
    "imports",
    "import_bytes_per_day",
    "streams",
    "api_keys",
    "webhooks",
)


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("organization", sa.String(length=63), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in _QUOTAS),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization"], ["organizations.name"], name=op.f("fk_quotas_organization")
        ),
        sa.PrimaryKeyConstraint("organization", name=op.f("pk_quotas")),
    )
    for name in ("replicas", "spec_bytes"):
        op.add_column("groups", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "sqlite":
        replicas = "json_extract(spec, '$.replicas')"
        scaled = "json_extract(spec, '$.queue_autoscaler.max_replicas')"
        most = "max"
    else:
        replicas = "CAST(spec->>'replicas' AS bigint)"
        scaled = "CAST(spec->'queue_autoscaler'->>'max_replicas' AS bigint)"
        most = "greatest"
    largest = f"{most}(coalesce({replicas}, 0), coalesce({scaled}, 0))"
    counted = f"CASE WHEN {largest} > 2147483647 THEN 2147483647 ELSE {largest} END"
    op.execute(
        sa.text(f"UPDATE groups SET replicas = {counted}, spec_bytes = length(CAST(spec AS text))")
    )


def downgrade() -> None:
    op.drop_column("groups", "spec_bytes")
    op.drop_column("groups", "replicas")
    op.drop_table("quotas")
