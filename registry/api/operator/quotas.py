"""The operator API's quotas of organizations."""

from dataclasses import asdict
from typing import Annotated, ClassVar, Final

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.http.bodies import JSON, MERGE_PATCH
from registry.api.operator.shapes import Body, Count, Document, Instant
from registry.model.quotas import MAX_LIMIT, QuotaReport
from registry.services.quotas import OrganizationQuotas

_PATH: Final = "/organizations/{organization_name}/quotas"

Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT, strict=True)] | None


class QuotasPatch(Body):
    """Changes of quotas; omitted quotas stay unchanged. 0 is no limit, null is the server's default."""

    groups: Limit = None
    replicas: Limit = None
    spec_bytes: Limit = None
    creations_per_minute: Limit = None
    reallocations_per_minute: Limit = None
    image_bytes: Limit = None
    stored_bytes: Limit = None
    imports: Limit = None
    import_bytes_per_day: Limit = None
    streams: Limit = None
    api_keys: Limit = None
    webhooks: Limit = None


class Quota(Document):
    """A quota of an organization.

    Attributes:
        limit: 0 is no limit.
        used: Null if the use is not counted.
        is_default: Whether the limit is the server's default.
    """

    limit: Count
    used: Count | None
    is_default: bool


class Quotas(Document):
    """An organization's quotas, by name."""

    quotas: dict[str, Quota]
    updated_at: Instant

    @classmethod
    def of(cls, report: QuotaReport) -> "Quotas":
        """Present the quotas and their use."""
        used = asdict(report.usage)
        quotas = {
            name: Quota(limit=limit, used=used.get(name), is_default=name not in report.overrides)
            for name, limit in asdict(report.limits).items()
        }
        return cls(quotas=quotas, updated_at=report.updated_at)


class QuotasApi:
    """Operations on an organization's quotas."""

    tag: ClassVar[str] = "organizations"

    def __init__(self, quotas: OrganizationQuotas) -> None:
        self._quotas = quotas

    @Endpoint("GET", _PATH, "The organization's quotas and their use.", errors=(404,))
    async def show_quotas(self, call: Call[None]) -> Quotas:
        """Get an organization's quotas."""
        return Quotas.of(await self._quotas.report(call.path("organization_name")))

    @Endpoint("PATCH", _PATH, "The quotas.", body_types=(MERGE_PATCH, JSON), errors=(404,))
    async def set_quotas(self, call: Call[QuotasPatch]) -> Quotas:
        """Change an organization's quotas.

        Usage above a lowered quota stays; only what would increase it is refused.
        """
        changes = call.body.model_dump(exclude_unset=True)
        organization = call.path("organization_name")
        return Quotas.of(await self._quotas.set(organization, changes, source=call.source))
