"""Names of the ledger's Redis keys, and their distribution over the hash slots of a cluster.

    pt:{<jti>}, pte                  on one server: a token, the stream of events
    pt:{<tag>}<jti>, pte:{<tag>}     on a cluster

A script can access one hash slot only, and a redemption changes a token and appends to a stream. On a
cluster, tokens are therefore distributed over a fixed number of slots, each with a stream.
"""

import zlib
from itertools import count

from redis.crc import key_slot

_SLOTS = 16384
SHARDS = 64


class LedgerKeys:
    """Names of the ledger's keys.

    Args:
        sharded: Whether the ledger is a cluster.

    Attributes:
        streams: Names of all streams.
    """

    def __init__(self, *, sharded: bool) -> None:
        self._tags = _tags() if sharded else ()
        self.streams = tuple(f"pte:{{{tag}}}" for tag in self._tags) or ("pte",)

    def token(self, token_id: str) -> str:
        """Return the key of a token's hash."""
        if not self._tags:
            return f"pt:{{{token_id}}}"
        return f"pt:{{{self._tags[self._shard(token_id)]}}}{token_id}"

    def stream(self, token_id: str) -> str:
        """Return the key of the stream for the events of a token, in the same slot as the token."""
        return self.streams[self._shard(token_id)]

    def _shard(self, token_id: str) -> int:
        return zlib.crc32(token_id.encode()) % len(self.streams)


def _tags() -> tuple[str, ...]:
    """Return tags with evenly distributed slots, because a cluster node has contiguous slots."""
    found: dict[int, str] = {}
    for number in count():
        tag = str(number)
        found.setdefault(key_slot(tag.encode()) * SHARDS // _SLOTS, tag)
        if len(found) == SHARDS:
            return tuple(found[shard] for shard in range(SHARDS))
    raise AssertionError("unreachable")  # pragma: no cover
