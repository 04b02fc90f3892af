"""Authorization headers, and how long they are valid."""

import base64
from dataclasses import dataclass
from typing import Final

from auth.secret import Secret
from registry.errors import (
    DocumentError,
    PullFailedError,
)
from registry.model.imports import UpstreamCredential
from registry.oci.strict_json import parse_object

DEFAULT_EXPIRY_S: Final = 60.0
MAX_EXPIRY_S: Final = 24 * 3600.0
MAX_SLACK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Grant:
    """An Authorization header and when to renew it, by the monotonic clock."""

    header: Secret
    until_s: float


def basic_header(credential: UpstreamCredential) -> Secret:
    """Encode a credential as HTTP Basic (RFC 7617, UTF-8)."""
    pair = f"{credential.username}:{credential.password.reveal()}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def parse_grant(body: bytes, host: str, started_s: float) -> Grant:
    """Parse a realm's answer to a request that was sent at `started_s`. Raises PullFailedError: no token."""
    try:
        fields = parse_object(body, "the token")
    except DocumentError:
        fields = {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise PullFailedError(f"{host} answers without a token: check that this host is the image's registry")
    expiry = fields.get("expires_in", DEFAULT_EXPIRY_S)
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or expiry <= 0:
        expiry = DEFAULT_EXPIRY_S
    expiry = min(float(expiry), MAX_EXPIRY_S)
    return Grant(Secret(f"Bearer {token}"), started_s + expiry - min(MAX_SLACK_S, expiry / 5))
