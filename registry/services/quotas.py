"""The use-cases of quotas: show, set, and the checks of quotas that the catalog does not count."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.quotas import SqlQuotas
from registry.errors import QuotaExceededError, RateLimitedError
from registry.model.groups import size_bytes_of
from registry.model.quotas import UNLIMITED, QuotaReport, Quotas

STREAM_RETRY_S: Final = 5.0

TakeRate = Callable[[str, int], Awaitable[float]]
"""Counts a request of a caller against a rate per minute; returns the seconds to wait, or 0."""


class OrganizationQuotas:
    """Shows and sets quotas, and checks rates, sizes and open streams.

    Args:
        take_rate: Rate limit, shared by all servers; None is no limit.
    """

    def __init__(self, catalog: SqlQuotas, take_rate: TakeRate | None = None) -> None:
        self._catalog = catalog
        self._take_rate = take_rate
        self._streams: Counter[str] = Counter()

    async def of(self, organization: str) -> Quotas:
        """Return an organization's quotas."""
        return await self._catalog.of(organization)

    async def report(self, organization: str) -> QuotaReport:
        """Return an organization's quotas and what it uses. Raises NotFoundError."""
        return await self._catalog.report(organization)

    async def set(
        self, organization: str, overrides: Mapping[str, int | None], *, source: str | None = None
    ) -> QuotaReport:
        """Change some quotas; None returns to the server's default. Raises NotFoundError."""
        detail = {"quotas": dict(overrides)}
        event = AuditEvent(RegistryEventType.QUOTAS_CHANGED, organization, source=source, detail=detail)
        await self._catalog.set(organization, overrides, event)
        return await self.report(organization)

    async def check_spec(self, organization: str, spec: Mapping[str, Any]) -> None:
        """Check the size of a group. Raises QuotaExceededError."""
        limit, size_bytes = (await self.of(organization)).spec_bytes, size_bytes_of(spec)
        if limit != UNLIMITED and size_bytes > limit:
            raise QuotaExceededError("spec_bytes", limit, used=size_bytes)

    async def take(self, organization: str, quota: str, action: str) -> None:
        """Count an action against a quota per minute. Raises RateLimitedError."""
        per_minute = getattr(await self.of(organization), quota)
        if self._take_rate is None or per_minute == UNLIMITED:
            return
        wait_s = await self._take_rate(f"{action}:{organization}", per_minute)
        if wait_s > 0:
            raise RateLimitedError(
                wait_s,
                f"The organization's quota {quota} is {per_minute}. Retry after the time in Retry-After, or "
                "ask the operator for a higher quota.",
            )

    @contextmanager
    def stream(self, organization: str, limit: int) -> Iterator[None]:
        """Count an open event stream of this process. Raises RateLimitedError: there are `limit` already."""
        if limit != UNLIMITED and self._streams[organization] >= limit:
            raise RateLimitedError(
                STREAM_RETRY_S,
                f"The organization's quota streams is {limit}. Close a stream, or poll without one.",
            )
        self._streams[organization] += 1
        try:
            yield
        finally:
            self._streams[organization] -= 1
            if not self._streams[organization]:
                del self._streams[organization]
