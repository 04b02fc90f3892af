"""The public API of container groups, in SaladCloud's shapes (docs/public-api.md)."""

from registry.api.public.application import PREFIX, public_app
from registry.api.public.authentication import ApiKeyAuthenticator, Caller

__all__ = ["PREFIX", "ApiKeyAuthenticator", "Caller", "public_app"]
