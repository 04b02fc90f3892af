"""The public API's quotas ("Quotas")."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, ClassVar, Final

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.public.application import ORGANIZATION, READ
from registry.api.public.shapes import Count, Omittable, Shape
from registry.model.quotas import UNLIMITED, QuotaReport
from registry.services.quotas import OrganizationQuotas

_INT32_MAX: Final = (1 << 31) - 1

Int32 = Annotated[int, Field(ge=0, le=_INT32_MAX)]


class ContainerGroupsQuotas(Shape):
    """Quotas of replicas, and of calls per minute ("ContainerGroupsQuotas")."""

    container_replicas_quota: Int32
    container_replicas_used: Int32
    max_container_group_reallocations_per_minute: Int32
    max_container_group_recreates_per_minute: Int32
    max_container_group_restarts_per_minute: Int32


class RegistryQuota(Shape):
    """A quota of the registry.

    Attributes:
        limit: Null: there is no limit.
        used: Omitted if the use is not counted.
    """

    limit: Count | None
    used: Omittable[Count] = None


class Quotas(Shape):
    """An organization's quotas; `registry_quotas` is not part of SaladCloud's API."""

    container_groups_quotas: ContainerGroupsQuotas
    registry_quotas: dict[str, RegistryQuota]
    create_time: datetime
    update_time: datetime

    @classmethod
    def of(cls, report: QuotaReport) -> "Quotas":
        """Present the quotas and their use."""
        limits, used = report.limits, asdict(report.usage)
        per_minute = _int32(limits.reallocations_per_minute)
        return cls(
            container_groups_quotas=ContainerGroupsQuotas(
                container_replicas_quota=_int32(limits.replicas),
                container_replicas_used=min(report.usage.replicas, _INT32_MAX),
                max_container_group_reallocations_per_minute=per_minute,
                max_container_group_recreates_per_minute=per_minute,
                max_container_group_restarts_per_minute=per_minute,
            ),
            registry_quotas={
                name: RegistryQuota(limit=None if limit == UNLIMITED else limit, used=used.get(name))
                for name, limit in asdict(limits).items()
            },
            create_time=report.created_at,
            update_time=report.updated_at,
        )


class QuotasApi:
    """Operation on an organization's quotas."""

    tag: ClassVar[str] = "quotas"

    def __init__(self, quotas: OrganizationQuotas) -> None:
        self._quotas = quotas

    @Endpoint("GET", f"{ORGANIZATION}/quotas", "The organization's quotas.", errors=READ)
    async def get_quotas(self, call: Call[None]) -> Quotas:
        """Get the quotas and what the organization uses of them."""
        return Quotas.of(await self._quotas.report(call.path("organization_name")))


def _int32(limit: int) -> int:
    """Return a limit in the reference's type, where no limit is the largest number."""
    return _INT32_MAX if limit == UNLIMITED else min(limit, _INT32_MAX)
