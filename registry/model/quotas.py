"""Quotas: what one organization may use."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final, Self

from registry.sizes import parse_bytes

UNLIMITED: Final = 0
MAX_LIMIT: Final = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of one organization. 0 is no limit.

    Attributes:
        groups: Container groups.
        replicas: Replicas of all container groups, whether they run or not; with autoscaling the maximum.
        spec_bytes: JSON of one group without its image and credentials.
        creations_per_minute: Container groups created per minute.
        reallocations_per_minute: Instances reallocated per minute; also recreated, and restarted.
        image_bytes: Compressed size of one image. The server's limit applies as well.
        stored_bytes: Bytes in storage. A blob that several organizations share counts for each.
        imports: Imports that run at the same time; further ones wait.
        import_bytes_per_day: Bytes imported within 24 hours.
        streams: Open event streams, for each server process.
        api_keys: API keys that are not revoked.
        webhooks: Webhooks.
    """

    groups: int = UNLIMITED
    replicas: int = UNLIMITED
    spec_bytes: int = UNLIMITED
    creations_per_minute: int = UNLIMITED
    reallocations_per_minute: int = UNLIMITED
    image_bytes: int = UNLIMITED
    stored_bytes: int = UNLIMITED
    imports: int = UNLIMITED
    import_bytes_per_day: int = UNLIMITED
    streams: int = UNLIMITED
    api_keys: int = UNLIMITED
    webhooks: int = UNLIMITED

    def with_overrides(self, overrides: Mapping[str, int | None]) -> Self:
        """Return the limits with those that an operator set; None keeps the default."""
        return replace(self, **{name: value for name, value in overrides.items() if value is not None})


def parse_limit(text: str) -> int | None:
    """Read a limit as operators write it: a number, also with a unit (2TB, 40GiB), `none` or `default`.

    Returns:
        The limit; 0 for `none`, and None for the server's default.

    Raises:
        ValueError: The text is not a limit.
    """
    if text in {"default", "none"}:
        return None if text == "default" else UNLIMITED
    limit = parse_bytes(text)
    if not 0 <= limit <= MAX_LIMIT:
        raise ValueError("a limit is between 0 and 2^53 - 1")
    return limit


NAMES: Final = tuple(quota.name for quota in fields(Quotas))
"""Names of all quotas."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """What an organization uses of the quotas that are counted in the catalog."""

    groups: int
    replicas: int
    stored_bytes: int
    imports: int
    import_bytes_per_day: int
    api_keys: int
    webhooks: int


@dataclass(frozen=True, slots=True)
class QuotaReport:
    """An organization's quotas.

    Attributes:
        overrides: Quotas that an operator set; the others are the server's defaults.
        updated_at: Time of the operator's last change, or of the organization's creation.
    """

    limits: Quotas
    overrides: Mapping[str, int]
    usage: QuotaUsage
    created_at: datetime
    updated_at: datetime
