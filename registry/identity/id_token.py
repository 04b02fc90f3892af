"""Validation of ID tokens (OpenID Connect Core 1.0, section 3.1.3.7). No I/O."""

import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import jwt

from registry.errors import IdTokenError

MAX_TOKEN_LENGTH: Final = 64 << 10
MAX_SUBJECT_LENGTH: Final = 255
LEEWAY_S: Final = 60

#: Signature algorithms and the key type of each. None of them is symmetric, and `none` is not one of them.
ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
        **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
        "EdDSA": "OKP",
    }
)
_MIN_RSA_BITS: Final = 2048

Jwk = Mapping[str, Any]


class UnknownKeyError(IdTokenError):
    """The provider's keys do not include the one that signed the token. They may have been rotated."""


def key_for(token: str, keys: Sequence[Jwk]) -> tuple[jwt.PyJWK, str]:
    """Return the key that signed a token, and its algorithm.

    Raises:
        IdTokenError: The token is malformed, or its algorithm is not allowed for the key.
        UnknownKeyError: There is no such key.
    """
    try:
        header = jwt.get_unverified_header(token) if len(token) <= MAX_TOKEN_LENGTH else {}
    except (jwt.InvalidTokenError, ValueError):
        header = {}
    algorithm, key_id = header.get("alg"), header.get("kid")
    kind = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if kind is None or "crit" in header:
        raise IdTokenError("the ID token is not signed with an algorithm that is allowed here")
    fitting = [
        key
        for key in keys
        if key.get("kty") == kind
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (key_id is None or key.get("kid") == key_id)
    ]
    if len(fitting) != 1:
        raise UnknownKeyError("the provider's keys do not include the key of the ID token")
    try:
        key = jwt.PyJWK(dict(fitting[0]), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise IdTokenError("the provider's key of the ID token cannot be read") from None
    if kind == "RSA" and key.key.key_size < _MIN_RSA_BITS:
        raise IdTokenError(f"the provider's key has less than {_MIN_RSA_BITS} bits")
    return key, str(algorithm)


def verify_id_token(
    token: str, keys: Sequence[Jwk], *, issuer: str, client_id: str, nonce: str
) -> Mapping[str, Any]:
    """Return the claims of an ID token.

    Raises:
        IdTokenError: The token is not valid. The message says why, without any part of it.
        UnknownKeyError: The provider's keys do not include the one that signed it.
    """
    # 1. The signature, by a key of the provider (steps 6 to 8).
    key, algorithm = key_for(token, keys)
    # 2. Issuer, audience, expiry and time of issue (steps 2, 3, 9 and 10).
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY_S,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise IdTokenError(f"the ID token is not valid ({type(error).__name__})") from None
    # 3. The authorized party: another client could have been issued a token that also names this one.
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    party = claims.get("azp")
    if party != client_id and (party is not None or len(audiences) > 1):
        raise IdTokenError("the ID token was issued to another client (azp)")
    # 4. The nonce (step 11).
    shown = claims.get("nonce")
    if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(errors="replace"), nonce.encode()):
        raise IdTokenError("the ID token belongs to another sign-in (nonce)")
    # 5. The subject.
    subject = claims["sub"]
    readable = isinstance(subject, str) and subject.isprintable()
    if not readable or not 0 < len(subject) <= MAX_SUBJECT_LENGTH:
        raise IdTokenError("the ID token's subject is not valid")
    return claims
