"""The public API of container groups, in SaladCloud's shapes (docs/public-api.md)."""

from aiohttp import web

from registry.api.endpoint import Part
from registry.api.public.application import PREFIX, guarded_app
from registry.api.public.authentication import ApiKeyAuthenticator, Authenticate, Caller
from registry.api.public.groups import GroupsApi
from registry.api.public.instances import InstancesApi
from registry.api.public.progress import ProgressApi
from registry.api.public.quotas import QuotasApi
from registry.services.groups import ContainerGroups
from registry.services.instances import Instances
from registry.services.quotas import OrganizationQuotas

__all__ = ["PREFIX", "ApiKeyAuthenticator", "Caller", "public_app"]


def public_app(
    groups: ContainerGroups, instances: Instances, quotas: OrganizationQuotas, authenticate: Authenticate
) -> web.Application:
    """Make the application to mount at `PREFIX`."""
    progress = ProgressApi(groups, quotas)
    parts: list[Part] = [GroupsApi(groups), progress, InstancesApi(instances), QuotasApi(quotas)]
    app = guarded_app(authenticate, parts)
    app.on_shutdown.append(progress.stop)
    return app
