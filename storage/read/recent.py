"""Short-lived cache of key records, so that the requests of one pull query the catalog once."""

import time
from collections import OrderedDict
from collections.abc import Callable

from storage.digest import Digest
from storage.records import KeyRecord

LIFETIME_S = 5.0


class RecentRecords:
    """Caches records for `lifetime_s`, after which a deletion by another process takes effect.

    Args:
        capacity: Maximum number of records, about 1 KiB each.
    """

    def __init__(
        self,
        *,
        capacity: int = 4096,
        lifetime_s: float = LIFETIME_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._now = now
        self._kept: OrderedDict[tuple[str, Digest], tuple[float, KeyRecord]] = OrderedDict()

    def get(self, tenant: str, digest: Digest) -> KeyRecord | None:
        """Return a record that was read less than `lifetime_s` ago, or None."""
        kept = self._kept.get((tenant, digest))
        if kept is None or kept[0] <= self._now():
            return None
        return kept[1]

    def put(self, record: KeyRecord) -> None:
        """Cache a record. Lookups do not extend its lifetime."""
        key = record.tenant, record.digest
        self._kept[key] = self._now() + self._lifetime_s, record
        self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def forget(self, tenant: str, digest: Digest) -> None:
        """Remove a record from the cache."""
        self._kept.pop((tenant, digest), None)
