"""Ids of the events that the ledger records

Revision: 0090, after 0080
"""

import sqlalchemy as sa
from alembic import op

revision = "0090"
down_revision = "0080"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("event_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_events_event_id"), "events", ["event_id"], unique=True)


def downgrade() -> None:
    op.drop_index(op.f("ix_events_event_id"), table_name="events")
    op.drop_column("events", "event_id")
