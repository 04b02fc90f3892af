"""Claims of verified tokens. No I/O.

`PullClaims` and `SessionClaims` are created only here, from a `VerifiedPayload`, which only `auth.jws`
creates. Their signature and all pinned claims are therefore verified. The expiry is not: check a bearer token
with `expired`; the ledger checks whether a pull token can still be redeemed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, NewType

from auth.errors import Cause, RefusedError
from auth.networks import Network
from auth.peer import NODE_URN

VerifiedPayload = NewType("VerifiedPayload", Mapping[str, Any])

LEEWAY = timedelta(seconds=30)
_PULL = ("pull",)
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class Access:
    """One entry of the `access` claim."""

    type: str
    name: str
    actions: tuple[str, ...]

    def to_claim(self) -> dict[str, object]:
        """Return the entry as JSON."""
        return {"type": self.type, "name": self.name, "actions": list(self.actions)}


@dataclass(frozen=True, slots=True)
class EncryptionClaim:
    """The claim `enc`: the session's layers are encrypted for its node.

    Attributes:
        key: `jkt`, the RFC 7638 thumbprint of the node's encryption key.
        minted_at: `iat`, when the pull token was minted, in seconds. Layers have the keys of that time.
    """

    key: str
    minted_at: int

    def to_claim(self) -> dict[str, object]:
        """Return the claim as JSON."""
        return {"jkt": self.key, "iat": self.minted_at}


@dataclass(frozen=True, slots=True)
class PullClaims:
    """Claims of a pull token, which allows one pull of one image by one node.

    Attributes:
        token_id: `jti`, the ledger's key.
        node_id: `sub`.
        organization: `org`, the tenant.
        repository: Name of the single repository in `access`.
        image_digest: `img`.
        encryption: `enc`; None if the session gets plaintext.
    """

    token_id: str
    node_id: str
    organization: str
    repository: str
    image_digest: str
    encryption: EncryptionClaim | None = None


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """Claims of a bearer token, for one session or for a login without a session.

    Attributes:
        token_id: `jti` of the pull token that was redeemed.
        node_id: `sub`.
        organization: `org`, the tenant.
        session_id: `sid`; None for a login, which grants no access.
        access: Granted access: pull from one repository; empty for a login.
        image_digest: `img`; None for a login.
        by_certificate: Whether `cnf` binds the bearer to the node's certificate; every request must show it.
        networks: `nets`, the networks from which it may be used; empty means any.
        encryption: `enc`, as in the pull token.
    """

    token_id: str
    node_id: str
    organization: str
    session_id: str | None
    access: tuple[Access, ...]
    image_digest: str | None
    expires_at: datetime
    by_certificate: bool = False
    networks: tuple[Network, ...] = ()
    encryption: EncryptionClaim | None = None

    @property
    def repository(self) -> str | None:
        """Repository that the session may pull from; None for a login."""
        return self.access[0].name if self.access else None

    def expired(self, now: datetime) -> bool:
        """Return whether the bearer has expired, with leeway, so that no request may start."""
        return now > self.expires_at + LEEWAY


def read_pull_claims(payload: VerifiedPayload) -> PullClaims:
    """Read a verified pull token's claims.

    Raises:
        RefusedError: A claim is missing, has another type or is out of bounds.
    """
    (access,) = _access(payload, entries=1)
    return PullClaims(
        token_id=_text(payload, "jti", _ID),
        node_id=_text(payload, "sub"),
        organization=_text(payload, "org"),
        repository=access.name,
        image_digest=_text(payload, "img", _DIGEST),
        encryption=_encryption(payload),
    )


def read_session_claims(payload: VerifiedPayload) -> SessionClaims:
    """Read a verified session token's claims.

    Raises:
        RefusedError: A claim is missing, has another type or is out of bounds.
    """
    login = "sid" not in payload
    return SessionClaims(
        token_id=_text(payload, "jti", _ID),
        node_id=_text(payload, "sub"),
        organization=_text(payload, "org"),
        session_id=None if login else _text(payload, "sid", _ID),
        access=_access(payload, entries=0 if login else 1),
        image_digest=None if login else _text(payload, "img", _DIGEST),
        expires_at=datetime.fromtimestamp(read_time(payload, "exp"), UTC),
        by_certificate=_confirmed(payload),
        networks=_networks(payload),
        encryption=_encryption(payload),
    )


def confirmation(node_id: str) -> dict[str, object]:
    """Return the `cnf` claim (RFC 7800, section 3.1) that binds a session to a node's certificate.

    The claim names the node instead of the certificate's thumbprint, because a node may renew its
    certificate during a pull.
    """
    return {"san": f"{NODE_URN}{node_id}"}


def read_time(payload: Mapping[str, Any], name: str) -> int:
    """Read a NumericDate (RFC 7519, section 2). Accepts only whole seconds, the form that Crisper writes.

    Raises:
        RefusedError: The claim is missing or invalid.
    """
    value = payload.get(name)
    if type(value) is not int or not 0 < value < 1 << 35:
        raise RefusedError(Cause.MALFORMED)
    return value


def _text(payload: Mapping[str, Any], name: str, grammar: re.Pattern[str] | None = None) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise RefusedError(Cause.MALFORMED)
    if grammar is not None and grammar.fullmatch(value) is None:
        raise RefusedError(Cause.MALFORMED)
    return value


def _confirmed(payload: Mapping[str, Any]) -> bool:
    if "cnf" not in payload:
        return False
    if payload["cnf"] != confirmation(_text(payload, "sub")):
        raise RefusedError(Cause.MALFORMED)
    return True


def _encryption(payload: Mapping[str, Any]) -> EncryptionClaim | None:
    if "enc" not in payload:
        return None
    claim = payload["enc"]
    if not isinstance(claim, dict) or set(claim) != {"jkt", "iat"}:
        raise RefusedError(Cause.MALFORMED)
    return EncryptionClaim(_text(claim, "jkt", _THUMBPRINT), read_time(claim, "iat"))


def _networks(payload: Mapping[str, Any]) -> tuple[Network, ...]:
    listed = payload.get("nets", [])
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise RefusedError(Cause.MALFORMED)
    try:
        return tuple(ip_network(entry) for entry in listed)
    except ValueError:
        raise RefusedError(Cause.MALFORMED) from None


def _access(payload: Mapping[str, Any], *, entries: int) -> tuple[Access, ...]:
    listed = payload.get("access")
    if not isinstance(listed, list) or len(listed) != entries:
        raise RefusedError(Cause.MALFORMED)
    for entry in listed:
        if (
            not isinstance(entry, dict)
            or entry.get("type") != "repository"
            or entry.get("actions") != ["pull"]
        ):
            raise RefusedError(Cause.MALFORMED)
    return tuple(Access("repository", _text(entry, "name"), _PULL) for entry in listed)
