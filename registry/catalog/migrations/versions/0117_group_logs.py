"""Groups of events, for the logs of groups

Revision: 0117, after 0116
"""

import sqlalchemy as sa
from alembic import op

revision = "0117"
down_revision = "0116"
branch_labels = None
depends_on = None

_LOGGED = "group_id IS NOT NULL"


def upgrade() -> None:
    op.add_column("events", sa.Column("group_id", sa.String(length=36), nullable=True))
    of_group = "type LIKE 'group.%' OR type LIKE 'instance.%'"
    group_id = (
        "json_extract(detail, '$.group_id')"
        if op.get_bind().dialect.name == "sqlite"
        else "detail->>'group_id'"
    )
    op.execute(sa.text(f"UPDATE events SET group_id = {group_id} WHERE {of_group}"))
    op.create_index(op.f("ix_events_group_id_cursor"), "events", ["group_id", "cursor"])
    op.create_index(
        "ix_events_logged",
        "events",
        ["organization", "at"],
        sqlite_where=sa.text(_LOGGED),
        postgresql_where=sa.text(_LOGGED),
    )


def downgrade() -> None:
    op.drop_index("ix_events_logged", table_name="events")
    op.drop_index(op.f("ix_events_group_id_cursor"), table_name="events")
    op.drop_column("events", "group_id")
