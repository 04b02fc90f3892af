"""Credentials as customers give them, turned into what each registry asks for."""

from registry.upstream.credentials.mapping import from_registry_authentication

__all__ = ["from_registry_authentication"]
