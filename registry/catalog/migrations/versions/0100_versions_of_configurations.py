"""Versions of configurations: what to return to, and the image of each instance

Revision: 0100, after 0090
"""

import sqlalchemy as sa
from alembic import op

revision = "0100"
down_revision = "0090"
branch_labels = None
depends_on = None

_STORED = "EXISTS (SELECT 1 FROM versions WHERE versions.group_id = groups.id)"
_IDLE = "CASE WHEN started THEN 'deploying' ELSE 'stopped' END"


def upgrade() -> None:
    op.add_column("groups", sa.Column("resume_status", sa.String(length=16), nullable=True))
    op.add_column("versions", sa.Column("image", sa.String(length=2048), nullable=False, server_default=""))
    op.add_column("versions", sa.Column("configuration", sa.JSON(), nullable=True))
    op.add_column("instances", sa.Column("image_id", sa.String(length=36), nullable=True))
    of_job = (
        "SELECT jobs.image FROM jobs WHERE jobs.group_id = versions.group_id "
        "AND jobs.version = versions.version AND jobs.state = 'done'"
    )
    of_group = "SELECT groups.image FROM groups WHERE groups.id = versions.group_id"
    op.execute(sa.text(f"UPDATE versions SET image = coalesce(({of_job} LIMIT 1), ({of_group}))"))
    of_version = (
        "SELECT versions.image_id FROM versions WHERE versions.group_id = instances.group_id "
        "AND versions.version = instances.version"
    )
    op.execute(sa.text(f"UPDATE instances SET image_id = ({of_version})"))
    op.execute(sa.text(f"UPDATE groups SET resume_status = {_IDLE} WHERE status = 'pending' AND {_STORED}"))
    # A group with a stored version is never `failed`: its nodes get that version.
    op.execute(sa.text(f"UPDATE groups SET status = {_IDLE} WHERE status = 'failed' AND {_STORED}"))


def downgrade() -> None:
    op.drop_column("instances", "image_id")
    op.drop_column("versions", "configuration")
    op.drop_column("versions", "image")
    op.drop_column("groups", "resume_status")
