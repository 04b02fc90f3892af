"""Run migrations on the connection that `registry.catalog.engine.database` hands over."""

from alembic import context

from registry.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
