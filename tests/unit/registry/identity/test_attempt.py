"""Sign-in attempts, and the provider's metadata."""

import base64
import hashlib
from typing import Any

import pytest

from registry.errors import IdentityProviderError
from registry.identity.attempt import SignInAttempt
from registry.identity.metadata import ProviderMetadata

ISSUER = "https://id.example.com"
DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}


def test_an_attempt_comes_back_from_its_cookie() -> None:
    attempt = SignInAttempt.begin("/audit?type=ä&x=1")
    found = SignInAttempt.parse(attempt.cookie)
    assert found == attempt
    assert SignInAttempt.begin("/") != SignInAttempt.begin("/")
    assert attempt.secret not in repr(attempt)


def test_state_nonce_and_verifier_do_not_reveal_the_secret_or_each_other() -> None:
    attempt = SignInAttempt.begin("/")
    values = [attempt.state, attempt.nonce, attempt.verifier, attempt.challenge, attempt.secret]
    assert len({*values}) == 5
    assert all(len(each) == 43 for each in values)  # RFC 7636: 43 to 128 characters
    digest = hashlib.sha256(attempt.verifier.encode()).digest()
    assert attempt.challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.mark.parametrize(
    "cookie", ["", ".", "x", "a" * 43, "a" * 42 + ".Lw==", "ä" * 43 + ".Lw==", "a" * 43 + ".ä"]
)
def test_other_cookies_are_no_attempt_or_lead_nowhere(cookie: str) -> None:
    found = SignInAttempt.parse(cookie)
    assert found is None or found.following == ""


def test_a_long_page_still_fits_into_a_cookie() -> None:
    assert len(SignInAttempt.begin("/" + "ä" * 100_000).cookie) <= 3072


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"issuer": ISSUER + "/"}, "another issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"jwks_uri": 7}, "jwks_uri"),
        ({"authorization_endpoint": "https://x\r\n"}, "authorization_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
    ],
)
def test_metadata_of_another_issuer_or_without_what_is_needed_is_refused(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(IdentityProviderError, match=why):
        ProviderMetadata.parse({**DOCUMENT, **change}, ISSUER)


@pytest.mark.parametrize(
    ("methods", "secret", "basic", "fields"),
    [
        (None, "s/%", ("crisper+x", "s%2F%25"), {}),
        (["client_secret_post", "client_secret_basic"], "s", ("crisper+x", "s"), {}),
        (["client_secret_post"], "s", None, {"client_id": "crisper x", "client_secret": "s"}),
        (None, None, None, {"client_id": "crisper x"}),
    ],
)
def test_the_client_authenticates_as_the_provider_accepts_it(
    methods: list[str] | None, secret: str | None, basic: tuple[str, str] | None, fields: dict[str, str]
) -> None:
    given = {**DOCUMENT, "token_endpoint_auth_methods_supported": methods} if methods else DOCUMENT
    metadata = ProviderMetadata.parse(given, ISSUER)
    assert metadata.authentication("crisper x", secret) == (basic, fields)


def test_a_provider_that_accepts_only_other_methods_is_refused() -> None:
    given = {**DOCUMENT, "token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    with pytest.raises(IdentityProviderError, match="accepts neither"):
        ProviderMetadata.parse(given, ISSUER).authentication("crisper", "secret")
