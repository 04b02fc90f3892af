"""The public API of container groups, in SaladCloud's shapes (docs/public-api.md)."""

from aiohttp import web

from registry.api.public.application import PREFIX, guarded_app
from registry.api.public.authentication import ApiKeyAuthenticator, Authenticate, Caller, changes_of
from registry.api.public.groups import GroupsApi
from registry.api.public.instances import InstancesApi
from registry.api.public.progress import ProgressApi
from registry.services.groups import ContainerGroups
from registry.services.instances import Instances

__all__ = ["PREFIX", "ApiKeyAuthenticator", "Caller", "changes_of", "public_app"]


def public_app(groups: ContainerGroups, instances: Instances, authenticate: Authenticate) -> web.Application:
    """Make the application to mount at `PREFIX`."""
    progress = ProgressApi(groups)
    app = guarded_app(authenticate, [GroupsApi(groups), progress, InstancesApi(instances)])
    app.on_shutdown.append(progress.stop)
    return app
