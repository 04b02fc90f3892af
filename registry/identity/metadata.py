"""The identity provider's metadata (OpenID Connect Discovery 1.0, section 3). No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import quote_plus

from registry.errors import IdentityProviderError

WELL_KNOWN: Final = "/.well-known/openid-configuration"

_BASIC: Final = "client_secret_basic"
_POST: Final = "client_secret_post"


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What Crisper uses of the metadata.

    Attributes:
        token_auth_methods: How clients authenticate at the token endpoint.
        names_issuer: Whether authorization responses have the parameter `iss` (RFC 9207).
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    token_auth_methods: tuple[str, ...]
    names_issuer: bool

    @classmethod
    def parse(cls, document: Mapping[str, Any], issuer: str) -> Self:
        """Read the metadata. Raises IdentityProviderError: it is not this issuer's, or unsuitable."""
        if document.get("issuer") != issuer:
            raise IdentityProviderError("its metadata names another issuer: check CRISPER_OIDC_ISSUER")
        methods = document.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise IdentityProviderError("it does not support PKCE with S256")
        userinfo = document.get("userinfo_endpoint")
        accepted = document.get("token_endpoint_auth_methods_supported", [_BASIC])
        return cls(
            issuer=issuer,
            authorization_endpoint=_url(document, "authorization_endpoint"),
            token_endpoint=_url(document, "token_endpoint"),
            jwks_uri=_url(document, "jwks_uri"),
            userinfo_endpoint=userinfo if isinstance(userinfo, str) else None,
            token_auth_methods=tuple(map(str, accepted)) if isinstance(accepted, list) else (),
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def authentication(
        self, client_id: str, secret: str | None
    ) -> tuple[tuple[str, str] | None, Mapping[str, str]]:
        """Return the client's Basic credentials, if any, and its fields in the form of a token request.

        Raises:
            IdentityProviderError: The provider requires another method.
        """
        if secret is None:
            return None, {"client_id": client_id}
        if _BASIC in self.token_auth_methods:  # form-encoded before base64 (RFC 6749, section 2.3.1)
            return (quote_plus(client_id), quote_plus(secret)), {}
        if _POST in self.token_auth_methods:
            return None, {"client_id": client_id, "client_secret": secret}
        raise IdentityProviderError(f"its token endpoint accepts neither {_BASIC} nor {_POST}")


def _url(document: Mapping[str, Any], name: str) -> str:
    url = document.get(name)
    if not isinstance(url, str) or not url.isprintable():
        raise IdentityProviderError(f"its metadata has no {name}")
    return url
