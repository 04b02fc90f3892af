"""Tokens, and short limits, for tests of the ledger."""

import hashlib
import secrets
from dataclasses import replace

from auth.ledger import LedgerLimits
from auth.records import ImageGrant, NewToken

MIB = 1024 * 1024


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


CONFIG, LAYER = digest_of("config"), digest_of("layer")
IMAGE = ImageGrant(digest_of("image"), 1000, {CONFIG: 100, LAYER: 900})

SHORT = LedgerLimits(
    leeway_s=0.02, grace_s=0.3, idle_s=0.6, base_s=0.9, lease_s=0.5, cap_s=1.8, barrier_s=0.4
)
"""Limits under which a session's whole life fits in a test."""


def new_token(**changes: object) -> NewToken:
    token = NewToken(
        token_id=secrets.token_urlsafe(16),
        organization="acme",
        group_id="group-1",
        repository="acme/factory/camera",
        node_id="node-1",
        image=IMAGE,
        ttl_s=60,
    )
    return replace(token, **changes)  # type: ignore[arg-type]


def some_id() -> str:
    return secrets.token_urlsafe(16)
