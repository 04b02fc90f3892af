"""Key records that were read a moment ago, so that a pull's many requests ask the catalog once."""

import time
from collections import OrderedDict
from collections.abc import Callable

from storage.digest import Digest
from storage.records import KeyRecord

LIFETIME_S = 5.0


class RecentRecords:
    """Remembers records for `lifetime_s`, which bounds how long another process' deletion goes unnoticed.

    Args:
        capacity: Records to keep, about 1 KiB each.
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
        """Return a record that was read less than `lifetime_s` ago."""
        kept = self._kept.get((tenant, digest))
        if kept is None or kept[0] <= self._now():
            return None
        return kept[1]

    def put(self, record: KeyRecord) -> None:
        """Remember a record that was just read; being asked for does not prolong its time."""
        key = record.tenant, record.digest
        self._kept[key] = self._now() + self._lifetime_s, record
        self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def forget(self, tenant: str, digest: Digest) -> None:
        """Forget a record."""
        self._kept.pop((tenant, digest), None)
