"""An image, its signatures, and policies about them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from registry.trust.policy import CosignKeyRule, Mode, Policy, Require
from tests.support.distribution import Image, make_image
from tests.support.signing import (
    BUNDLE,
    PrivateKey,
    bundle,
    listed,
    new_key,
    referrer,
    sign,
    simple_payload,
    statement,
)


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC)


@dataclass
class MemoryPolicies:
    policies: Sequence[Policy] = ()
    asked: list[str] = field(default_factory=list)

    async def of(self, organization: str) -> Sequence[Policy]:
        self.asked.append(organization)
        return self.policies


def by_keys(*keys: str, require: Require = Require.ANY, mode: Mode = Mode.ENFORCE) -> Policy:
    return Policy("*", mode, require, tuple(map(CosignKeyRule, keys)))


IMAGE = make_image([b"a layer"])
OTHER = make_image([b"another layer"])
KEY = new_key()
PAYLOAD = statement(IMAGE.root)
GOOD = bundle(KEY, PAYLOAD)


def simple(key: PrivateKey, digest: str = IMAGE.root) -> tuple[bytes, bytes]:
    payload = simple_payload(digest)
    return payload, sign(key, payload)


def bundled(content: Mapping[str, Any] | bytes, of: Image = IMAGE) -> dict[str, Image]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    artifact = referrer(of.root_bytes, BUNDLE, (BUNDLE, data))
    return listed(of.root, {artifact.root: BUNDLE}, artifact)
