"""Database engines: connections, transactions and statements on SQLite and PostgreSQL."""
