"""The operator API's webhooks."""

from http import HTTPStatus

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.operator import documents
from registry.api.operator.answering import respond
from registry.api.operator.requests import NewWebhook
from registry.services.webhooks import Webhooks


class WebhooksApi:
    """Handlers of `/api/v1/organizations/{organization_name}/webhooks`."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the operator application."""
        base = "/organizations/{organization_name}/webhooks"
        one = f"{base}/{{webhook_id}}"
        return [
            web.post(base, self.create),
            web.get(base, self.list, allow_head=False),
            web.get(one, self.get, allow_head=False),
            web.delete(one, self.remove),
            web.post(f"{one}/enable", self.enable),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Register an endpoint; its signing secret is shown this once."""
        body = await NewWebhook.read(request)
        organization = request.match_info["organization_name"]
        made = await self._webhooks.register(
            organization, body.url, body.types, source=peer_of(request).source
        )
        document = {**documents.webhook(made.webhook), "secret": made.secret.reveal()}
        return respond(document, HTTPStatus.CREATED)

    async def list(self, request: web.Request) -> web.Response:
        """List an organization's endpoints, oldest first, and how they do."""
        found = await self._webhooks.list(request.match_info["organization_name"])
        return respond({"items": [documents.webhook(webhook) for webhook in found]})

    async def get(self, request: web.Request) -> web.Response:
        """Show an endpoint and how it does."""
        return respond(documents.webhook(await self._webhooks.get(*_named(request))))

    async def enable(self, request: web.Request) -> web.Response:
        """Begin to tell an endpoint again that was given up."""
        webhook = await self._webhooks.enable(*_named(request), source=peer_of(request).source)
        return respond(documents.webhook(webhook))

    async def remove(self, request: web.Request) -> web.Response:
        """Remove an endpoint and what waits for it."""
        await self._webhooks.remove(*_named(request), source=peer_of(request).source)
        return web.Response(status=HTTPStatus.NO_CONTENT)


def _named(request: web.Request) -> tuple[str, str]:
    return request.match_info["organization_name"], request.match_info["webhook_id"]
