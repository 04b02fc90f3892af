"""The public API's instances."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.operations import JSON, MERGE_PATCH
from registry.api.public.exchange import group_key, json_body, json_response
from registry.api.public.responses import ContainerGroupInstance, ContainerGroupInstanceCollection
from registry.api.public.updates import ContainerGroupInstancePatch
from registry.services.instances import Instances

_ID: Final = "container_group_instance_id"


class InstancesApi:
    """Handlers of a group's instances."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return what to add to the public application."""
        one = f"{base}/{{{_ID}}}"
        return [
            web.get(base, self.list, allow_head=False),
            web.get(one, self.get, allow_head=False),
            web.patch(one, self.update),
            web.post(f"{one}/reallocate", self.reallocate),
            web.post(f"{one}/recreate", self.recreate),
            web.post(f"{one}/restart", self.restart),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """List a group's instances, oldest first."""
        return json_response(
            ContainerGroupInstanceCollection.of(await self._instances.list(group_key(request)))
        )

    async def get(self, request: web.Request) -> web.Response:
        """Show an instance."""
        view = await self._instances.get(group_key(request), request.match_info[_ID])
        return json_response(ContainerGroupInstance.of(view))

    async def update(self, request: web.Request) -> web.Response:
        """Change what it costs to give an instance up."""
        key, instance_id = group_key(request), request.match_info[_ID]
        patch = ContainerGroupInstancePatch.read(await json_body(request, JSON, MERGE_PATCH))
        if "deletion_cost" not in patch.model_fields_set:
            return json_response(ContainerGroupInstance.of(await self._instances.get(key, instance_id)))
        view = await self._instances.set_deletion_cost(
            key, instance_id, patch.deletion_cost or 0, source=peer_of(request).source
        )
        return json_response(ContainerGroupInstance.of(view))

    async def reallocate(self, request: web.Request) -> web.Response:
        """Free an instance's node, so that another takes its place."""
        await self._instances.reallocate(
            group_key(request), request.match_info[_ID], source=peer_of(request).source
        )
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def recreate(self, request: web.Request) -> web.Response:
        """Have an instance's container made anew on its node."""
        await self._instances.recreate(
            group_key(request), request.match_info[_ID], source=peer_of(request).source
        )
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def restart(self, request: web.Request) -> web.Response:
        """Have an instance's container started again on its node."""
        await self._instances.restart(
            group_key(request), request.match_info[_ID], source=peer_of(request).source
        )
        return web.Response(status=HTTPStatus.ACCEPTED)
