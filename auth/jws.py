"""Strict signing and verification of ES256 tokens (docs/tokens.md, "Verification"; RFC 7515, RFC 8725).

A token's header never influences its verification. It must contain exactly `alg`, `typ` and `kid`. The first
two have fixed values, and the third names a key of this server. This rules out `none`, HMAC, `jwk`, `jku`,
`x5c`, `x5u` and `crit`.
"""

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from jwt.algorithms import ECAlgorithm

from auth.claims import LEEWAY, VerifiedPayload, read_time
from auth.errors import Cause, RefusedError
from auth.secret import Secret
from auth.signing_keys import LocalSigningKeys, LocalVerificationKeys

MAX_TOKEN_BYTES = 8 * 1024
_ALGORITHM = "ES256"
_HEADER = {"alg", "typ", "kid"}
_SEGMENTS = 3
_LONGEST_S = 2 * 86400
_HEADERS = 64  # one for each kind of token and key
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_es256 = ECAlgorithm(ECAlgorithm.SHA256)


class TokenType(StrEnum):
    """The `typ` header of each kind of token, which prevents confusion between them."""

    PULL = "pull+jwt"
    SESSION = "at+jwt"


def sign(keys: LocalSigningKeys, type_: TokenType, claims: Mapping[str, object]) -> Secret:
    """Return a token that says `claims`."""
    return Secret(keys.sign({"alg": _ALGORITHM, "typ": type_.value}, orjson.dumps(claims)))


def verify(
    keys: LocalVerificationKeys, token: str, *, type_: TokenType, issuer: str, audience: str, now: datetime
) -> VerifiedPayload:
    """Verify a token, except for its expiry, and return its payload.

    Steps, in order: 1. size and form; 2. header; 3. key; 4. signature; 5. issuer and audience; 6. times.

    Args:
        keys: Accepted keys.
        token: The presented token.
        type_: Required `typ`.
        issuer: Required `iss`.
        audience: Required `aud`, which must be a string and not a list.
        now: Current time.

    Raises:
        RefusedError: The token is malformed, forged, or not valid yet.
    """
    header, payload, signed, signature = _split(token)
    if header.keys() != _HEADER or header["alg"] != _ALGORITHM or header["typ"] != type_.value:
        raise RefusedError(Cause.FORGED)
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise RefusedError(Cause.FORGED)
    if not _es256.verify(signed, key, signature):
        raise RefusedError(Cause.FORGED)
    if payload.get("iss") != issuer or payload.get("aud") != audience:
        raise RefusedError(Cause.FORGED)
    _check_times(payload, now)
    return VerifiedPayload(payload)


def _split(token: str) -> tuple[Mapping[str, Any], dict[str, Any], bytes, bytes]:
    """Split a token into header, payload, signing input and signature (RFC 7515, section 7.1)."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise RefusedError(Cause.MALFORMED)
    segments = token.split(".")
    if len(segments) != _SEGMENTS:
        raise RefusedError(Cause.MALFORMED)
    header, payload, signature = segments
    return _header(header), _object(_decoded(payload)), token.rpartition(".")[0].encode(), _decoded(signature)


@lru_cache(maxsize=_HEADERS)
def _header(segment: str) -> Mapping[str, Any]:
    return MappingProxyType(_object(_decoded(segment)))


def _decoded(segment: str) -> bytes:
    if _BASE64URL.fullmatch(segment) is None:
        raise RefusedError(Cause.MALFORMED)
    try:
        return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise RefusedError(Cause.MALFORMED) from None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = _decoder.decode(raw.decode())
    except (ValueError, RecursionError):
        raise RefusedError(Cause.MALFORMED) from None
    if not isinstance(value, dict):
        raise RefusedError(Cause.MALFORMED)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("duplicate keys")
    return read


_decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)


def _check_times(payload: Mapping[str, Any], now: datetime) -> None:
    issued_at, not_before, expires_at = (read_time(payload, name) for name in ("iat", "nbf", "exp"))
    if not issued_at < expires_at <= issued_at + _LONGEST_S:
        raise RefusedError(Cause.MALFORMED)
    if now.timestamp() < max(issued_at, not_before) - LEEWAY.total_seconds():
        raise RefusedError(Cause.NOT_YET_VALID)


def unverified_token_id(token: Secret) -> str | None:
    """Return the id in a token, for its holder, who cannot verify it. None if it has none."""
    try:
        payload = token.reveal().split(".")[1]
        token_id = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return token_id if isinstance(token_id, str) else None
