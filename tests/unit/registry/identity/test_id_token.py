"""ID tokens whose keys are wrong. Wrong claims are tested with a real provider."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from registry.errors import IdTokenError
from registry.identity.id_token import ALGORITHMS, MAX_TOKEN_LENGTH, UnknownKeyError, verify_id_token

ISSUER, CLIENT, NONCE = "https://id.example.com", "crisper", "n" * 43
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
RSA_JWK: dict[str, Any] = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa"}
EC_JWK: dict[str, Any] = {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec"}
ED_JWK: dict[str, Any] = {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), "kid": "ed"}


def token(key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:  # noqa: ANN401
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": CLIENT, "sub": "jane", "iat": now, "exp": now + 60, "nonce": NONCE}
    return jwt.encode(claims, key, algorithm, header)


def verify(text: str, *keys: dict[str, Any]) -> str:
    return str(verify_id_token(text, keys, issuer=ISSUER, client_id=CLIENT, nonce=NONCE)["sub"])


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [
        (RSA, "RS256", "rsa"),
        (RSA, "PS384", "rsa"),
        (EC, "ES256", "ec"),
        (ED, "EdDSA", "ed"),
        (EC, "ES256", None),
    ],
)
def test_the_key_is_found_by_its_id_and_kind(key: Any, algorithm: str, key_id: str | None) -> None:  # noqa: ANN401
    header = {"kid": key_id} if key_id else {}
    assert verify(token(key, algorithm, **header), RSA_JWK, EC_JWK, ED_JWK) == "jane"


def test_no_algorithm_is_symmetric() -> None:
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [EC_JWK],
        [{**RSA_JWK, "kid": "another"}],
        [{**RSA_JWK, "use": "enc"}],
        [{**RSA_JWK, "alg": "RS512"}],
        [RSA_JWK, RSA_JWK],
    ],
)
def test_a_token_of_no_or_several_keys_is_refused(keys: list[dict[str, Any]]) -> None:
    with pytest.raises(UnknownKeyError):
        verify(token(kid="rsa"), *keys)


def test_a_token_of_another_key_with_the_same_id_is_refused() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(IdTokenError, match="InvalidSignatureError"):
        verify(token(other, kid="rsa"), RSA_JWK)


@pytest.mark.parametrize("jwk", [{"kty": "RSA"}, {"kty": "RSA", "n": "AQAB", "e": 7}, {**RSA_JWK, "n": ""}])
def test_a_key_that_cannot_be_read_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(IdTokenError):
        verify(token(), jwk)


def test_a_short_key_is_refused() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (to be refused)
    jwk = RSAAlgorithm.to_jwk(short.public_key(), as_dict=True)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        text = token(short)
    with pytest.raises(IdTokenError, match="2048 bits"):
        verify(text, jwk)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "." * 9, "\udcff.x.y", "x" * (MAX_TOKEN_LENGTH + 1)])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(IdTokenError, match="algorithm"):
        verify(text, RSA_JWK)


def test_a_critical_header_is_refused() -> None:
    with pytest.raises(IdTokenError):
        verify(token(crit=["x"], x=1), RSA_JWK)
