"""The `crisper` command."""
