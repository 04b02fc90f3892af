"""The operator API's instances: what a scheduler sees of its designations, and says about them."""

from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.operator import documents
from registry.api.operator.answering import respond
from registry.api.operator.requests import InstanceReport
from registry.model.groups import GroupKey
from registry.model.instances import InstanceState
from registry.services.instances import Instances

_GROUP: Final = "/organizations/{organization_name}/projects/{project_name}/containers/{container_group_name}"


class InstancesApi:
    """Handlers of a group's instances."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the operator application."""
        return [
            web.get(f"{_GROUP}/instances", self.list, allow_head=False),
            web.post(f"{_GROUP}/instances/{{instance_id}}/report", self.report),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """List a group's instances, oldest first, with their nodes and tokens."""
        key = _group(request)
        return respond({"items": [documents.instance(key, view) for view in await self._instances.list(key)]})

    async def report(self, request: web.Request) -> web.Response:
        """Take the scheduler's word for the state of an instance's container."""
        body = await InstanceReport.read(request)
        key, state = _group(request), InstanceState(body.state)
        view = await self._instances.report(
            request.match_info["instance_id"], key, state, source=peer_of(request).source
        )
        return respond(documents.instance(key, view))


def _group(request: web.Request) -> GroupKey:
    named = request.match_info
    return GroupKey(named["organization_name"], named["project_name"], named["container_group_name"])
