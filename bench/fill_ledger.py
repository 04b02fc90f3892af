"""Fill a ledger with outstanding tokens by the scripts of minting, without signing, which takes longer."""

import secrets

from redis import Redis

from auth.ledger import LedgerLimits
from auth.ledger.fields import encode_new
from auth.ledger.scripts import Script
from auth.records import MAX_TTL_S, ImageGrant, NewToken, NodeBinding

_BATCH = 500
_INDEX, _MINT = Script("index"), Script("mint", prelude="session")


def fill(url: str, image: ImageGrant, count: int, *, groups: int = 100, nodes: int = 1000) -> None:
    """Mint tokens of many groups for many nodes of one organization."""
    limits = LedgerLimits()
    life_ms = round((MAX_TTL_S + limits.leeway_s + limits.cap_s) * 1000)
    blobs = sum(size > 0 for size in image.blobs.values())
    with Redis(unix_socket_path=url.removeprefix("unix://"), socket_timeout=60) as redis:
        redis.config_set("appendfsync", "no")  # the benchmark does not measure the filling
        for script in (_INDEX, _MINT):
            redis.script_load(script.text)
        for first in range(0, count, _BATCH):
            pipeline = redis.pipeline(transaction=False)
            for number in range(first, min(first + _BATCH, count)):
                token = _token(number, image, groups, nodes)
                entries = {
                    f"n:{token.node_id}": token.token_id,
                    f"g:{token.group_id}": token.token_id,
                    f"o:{token.organization}": token.group_id,
                }
                for scope, member in entries.items():
                    pipeline.evalsha(
                        _INDEX.sha, 2, f"ptx:{{{scope}}}", f"ptx:{{{scope}}}:bar", member, life_ms
                    )
                arguments = [limits.as_json(fence=False), MAX_TTL_S * 1000, blobs, *encode_new(token)]
                pipeline.evalsha(_MINT.sha, 1, f"pt:{{{token.token_id}}}", *arguments)
            pipeline.execute()
        redis.config_set("appendfsync", "always")


def _token(number: int, image: ImageGrant, groups: int, nodes: int) -> NewToken:
    return NewToken(
        token_id=secrets.token_urlsafe(16),
        organization="acme",
        group_id=f"3f0c9a52-5b1e-4b7e-9d40-{number % groups:012d}",
        repository="acme/factory/camera",
        node_id=f"node-{number % nodes}",
        image=image,
        ttl_s=MAX_TTL_S,
        binding=NodeBinding(by_certificate=False, secret_hash=secrets.token_bytes(32)),
    )
