"""Conversion of customers' credentials into the logins that each registry requires."""

from registry.upstream.credentials.mapping import from_registry_authentication

__all__ = ["from_registry_authentication"]
