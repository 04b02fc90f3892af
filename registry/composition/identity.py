"""Sign-in of people at the identity provider."""

from auth.secret import Secret
from registry.composition.shared import Shared
from registry.config import Settings
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.errors import ConfigError
from registry.identity.provider import IdentityProvider, OidcClient
from registry.model.access import RoleMapping
from registry.portal.openid import ATTEMPTS_PER_MINUTE, OpenIdSignIn
from registry.portal.people import People
from registry.upstream.from_settings import identity_client


def check_identity_settings(settings: Settings) -> None:
    """Validate the settings of the identity provider. Raises ConfigError."""
    if settings.oidc_issuer is not None:
        _mapping(settings)
        _client(settings)


def people_of(settings: Settings) -> People | None:
    """Return the roles of people; None if there is no identity provider."""
    if settings.oidc_issuer is None:
        return None
    return People(settings.oidc_issuer, _mapping(settings), settings.oidc_session_s)


def compose_identity(shared: Shared) -> OpenIdSignIn | None:
    """Build the sign-in of people; None if there is no identity provider."""
    settings = shared.settings
    if settings.oidc_issuer is None:
        return None
    http = identity_client(settings)
    shared.stack.push_async_callback(http.close)
    return OpenIdSignIn(
        provider=IdentityProvider(_client(settings), http),
        mapping=_mapping(settings),
        origin=shared.origin,
        redirect_url=settings.oidc_redirect_url,
        attempts=RedisRateLimiter(shared.redis, ATTEMPTS_PER_MINUTE).take,
    )


def _mapping(settings: Settings) -> RoleMapping:
    try:
        return RoleMapping.parse(settings.oidc_roles or "")
    except ValueError as error:
        raise ConfigError(f"CRISPER_OIDC_ROLES: {error}") from None


def _client(settings: Settings) -> OidcClient:
    scopes = settings.oidc_scopes.split()
    if "openid" not in scopes:
        raise ConfigError("CRISPER_OIDC_SCOPES must include openid")
    return OidcClient(
        settings.oidc_issuer or "", settings.oidc_client_id or "", _secret(settings), " ".join(scopes)
    )


def _secret(settings: Settings) -> Secret | None:
    text, path = settings.oidc_client_secret, settings.oidc_client_secret_file
    if path is not None:
        try:
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            name = type(error).__name__
            raise ConfigError(f"CRISPER_OIDC_CLIENT_SECRET_FILE: {path} cannot be read ({name})") from None
        if not text:
            raise ConfigError(f"CRISPER_OIDC_CLIENT_SECRET_FILE: {path} is empty")
    return Secret(text) if text else None
