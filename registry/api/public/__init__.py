"""The public API of container groups, in SaladCloud's shapes (docs/public-api.md)."""

from dataclasses import dataclass

from aiohttp import web

from registry.api.endpoint import Part
from registry.api.public.application import PREFIX, guarded_app
from registry.api.public.authentication import ApiKeyAuthenticator, Authenticate, Caller, changes_of
from registry.api.public.group_logs import GroupLogsApi
from registry.api.public.groups import GroupsApi
from registry.api.public.hardware import HardwareApi
from registry.api.public.instances import InstancesApi
from registry.api.public.out_of_scope import OutOfScopeApi
from registry.api.public.progress import ProgressApi
from registry.api.public.quotas import QuotasApi
from registry.api.public.webhooks import WebhooksApi
from registry.services.group_logs import GroupLogs
from registry.services.groups import ContainerGroups
from registry.services.hardware import HardwareFile
from registry.services.instances import Instances
from registry.services.quotas import OrganizationQuotas
from registry.services.webhooks import Webhooks

__all__ = ["PREFIX", "ApiKeyAuthenticator", "Caller", "PublicServices", "changes_of", "public_app"]


@dataclass(frozen=True, slots=True)
class PublicServices:
    """The use-cases that the public API offers."""

    groups: ContainerGroups
    instances: Instances
    quotas: OrganizationQuotas
    logs: GroupLogs
    webhooks: Webhooks
    hardware: HardwareFile


def public_app(services: PublicServices, authenticate: Authenticate) -> web.Application:
    """Make the application to mount at `PREFIX`."""
    progress = ProgressApi(services.groups, services.quotas, authenticate)
    parts: list[Part] = [
        GroupsApi(services.groups),
        progress,
        InstancesApi(services.instances),
        GroupLogsApi(services.logs),
        QuotasApi(services.quotas),
        WebhooksApi(services.webhooks),
        HardwareApi(services.hardware),
        OutOfScopeApi(),
    ]
    app = guarded_app(authenticate, parts)
    app.on_shutdown.append(progress.stop)
    return app
