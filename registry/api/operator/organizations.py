"""The operator API's organizations, and the keys that they use the public API with."""

from http import HTTPStatus

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.operator import documents
from registry.api.operator.answering import respond
from registry.api.operator.requests import NewApiKey, NewOrganization
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.errors import NotFoundError
from registry.services.api_keys import ApiKeys


class OrganizationsApi:
    """Handlers of `/api/v1/organizations`, without their webhooks."""

    def __init__(self, organizations: SqlOrganizationDirectory, keys: ApiKeys) -> None:
        self._organizations = organizations
        self._keys = keys

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the operator application."""
        one = "/organizations/{organization_name}"
        return [
            web.post("/organizations", self.create),
            web.get("/organizations", self.list, allow_head=False),
            web.get(one, self.get, allow_head=False),
            web.post(f"{one}/api-keys", self.create_key),
            web.get(f"{one}/api-keys", self.list_keys, allow_head=False),
            web.delete(f"{one}/api-keys/{{key_id}}", self.revoke_key),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Create a customer; the API key in the answer is shown this once."""
        body = await NewOrganization.read(request)
        made = await self._keys.create_organization(body.name, source=peer_of(request).source)
        document = {"name": body.name, "api_key": made.secret.reveal(), "key_id": made.key.key_id}
        return respond(document, HTTPStatus.CREATED)

    async def list(self, _request: web.Request) -> web.Response:
        """List all customers by name."""
        found = await self._organizations.list()
        return respond({"items": [documents.organization(one) for one in found]})

    async def get(self, request: web.Request) -> web.Response:
        """Show a customer."""
        found = await self._organizations.get(request.match_info["organization_name"])
        if found is None:
            raise NotFoundError("there is no such organization")
        return respond(documents.organization(found))

    async def create_key(self, request: web.Request) -> web.Response:
        """Make a further API key, shown this once."""
        body = await NewApiKey.read(request)
        organization = request.match_info["organization_name"]
        made = await self._keys.create(organization, body.name, source=peer_of(request).source)
        return respond({**documents.api_key(made.key), "api_key": made.secret.reveal()}, HTTPStatus.CREATED)

    async def list_keys(self, request: web.Request) -> web.Response:
        """List a customer's API keys, oldest first, revoked ones included; never the keys themselves."""
        found = await self._keys.list(request.match_info["organization_name"])
        return respond({"items": [documents.api_key(key) for key in found]})

    async def revoke_key(self, request: web.Request) -> web.Response:
        """Revoke an API key from the next request on."""
        named = request.match_info
        await self._keys.revoke(named["organization_name"], named["key_id"], source=peer_of(request).source)
        return web.Response(status=HTTPStatus.NO_CONTENT)
