"""The operator API's organizations and their keys for the public API."""

from typing import Annotated, ClassVar

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Body, Document, Instant, Name, PageQuery
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.errors import NotFoundError
from registry.model.access import KeyScope
from registry.services import api_keys


class NewOrganization(Body):
    """A customer to be created."""

    name: Name


class NewApiKey(Body):
    """An additional API key of an organization.

    Attributes:
        name: Label chosen by the owner.
        scope: `read`: only reads; `deploy`: also changes groups and instances; `full`: also webhooks and
            their secret key, and API keys in the portal.
    """

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scope: KeyScope = KeyScope.FULL


class Organization(Document):
    """A customer."""

    name: str
    created_at: Instant


class Organizations(Document):
    """A page of the customers, by name.

    Attributes:
        next_after: Where the next page starts; null on the last one.
    """

    items: list[Organization]
    next_after: str | None


class CreatedOrganization(Document):
    """A new customer; `api_key` is shown only once."""

    name: str
    api_key: str
    key_id: str


class ApiKey(Document):
    """A key for the public API.

    Attributes:
        last_used_at: At most a minute late; null if the key was never used.
    """

    key_id: str
    name: str
    scope: KeyScope
    created_at: Instant
    last_used_at: Instant | None
    revoked_at: Instant | None


class ApiKeys(Document):
    """A customer's API keys, oldest first."""

    items: list[ApiKey]


class CreatedApiKey(ApiKey):
    """A new key; `api_key` is shown only once."""

    api_key: str


class OrganizationsApi:
    """Operations on organizations and API keys."""

    tag: ClassVar[str] = "organizations"

    def __init__(self, organizations: SqlOrganizationDirectory, keys: api_keys.ApiKeys) -> None:
        self._organizations = organizations
        self._keys = keys

    @Endpoint("POST", "/organizations", "The organization and its first API key.", status=201, errors=(409,))
    async def create_organization(self, call: Call[NewOrganization]) -> CreatedOrganization:
        """Create an organization."""
        name = call.body.name
        made = await self._keys.create_organization(name, source=call.source)
        return CreatedOrganization(name=name, api_key=made.secret.reveal(), key_id=made.key.key_id)

    @Endpoint("GET", "/organizations", "Organizations, by name.", errors=(400,))
    async def list_organizations(self, call: Call[None], query: PageQuery) -> Organizations:  # noqa: ARG002
        """List organizations."""
        found = await self._organizations.list(after=query.after or "", limit=query.size)
        next_after = query.next_after([each.name for each in found])
        return Organizations.model_validate({"items": found, "next_after": next_after})

    @Endpoint("GET", "/organizations/{organization_name}", "The organization.", errors=(404,))
    async def get_organization(self, call: Call[None]) -> Organization:
        """Get an organization."""
        found = await self._organizations.get(call.path("organization_name"))
        if found is None:
            raise NotFoundError("the organization does not exist")
        return Organization.model_validate(found)

    @Endpoint(
        "POST",
        "/organizations/{organization_name}/api-keys",
        "The key, shown only once.",
        status=201,
        errors=(403, 404),
    )
    async def create_api_key(self, call: Call[NewApiKey]) -> CreatedApiKey:
        """Create an API key."""
        made = await self._keys.create(
            call.path("organization_name"), call.body.name, call.body.scope, source=call.source
        )
        key = ApiKey.model_validate(made.key)
        return CreatedApiKey(**dict(key), api_key=made.secret.reveal())

    @Endpoint(
        "GET",
        "/organizations/{organization_name}/api-keys",
        "The organization's API keys, including revoked ones.",
        errors=(404,),
    )
    async def list_api_keys(self, call: Call[None]) -> ApiKeys:
        """List API keys."""
        return ApiKeys.model_validate({"items": await self._keys.list(call.path("organization_name"))})

    @Endpoint(
        "DELETE", "/organizations/{organization_name}/api-keys/{key_id}", "Done.", status=204, errors=(404,)
    )
    async def revoke_api_key(self, call: Call[None]) -> None:
        """Revoke an API key."""
        await self._keys.revoke(call.path("organization_name"), call.path("key_id"), source=call.source)
