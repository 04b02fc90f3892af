"""The public API of container groups, in SaladCloud's shapes (docs/public-api.md)."""

from registry.api.public.application import PREFIX, public_app
from registry.api.public.authentication import ApiKeyAuthenticator, Caller, hash_api_key

__all__ = ["PREFIX", "ApiKeyAuthenticator", "Caller", "hash_api_key", "public_app"]
