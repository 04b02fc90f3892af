"""The role `api`: the public API, the operator API and the portal."""

from collections.abc import Callable, Container, Sequence
from functools import partial

from aiohttp import web

from registry.api import operator, public
from registry.api.documentation import ApiReference
from registry.api.endpoint import Access, Part
from registry.api.openapi import document
from registry.api.operator.edges import EdgesApi
from registry.api.operator.encryption import EncryptionApi
from registry.api.operator.events import EventsApi
from registry.api.operator.images import ImagesApi
from registry.api.operator.instances import InstancesApi
from registry.api.operator.nodes import NodesApi
from registry.api.operator.organizations import OrganizationsApi
from registry.api.operator.platforms import PlatformsApi
from registry.api.operator.policies import PoliciesApi
from registry.api.operator.pull_tokens import PullTokensApi
from registry.api.operator.quotas import QuotasApi
from registry.api.operator.webhooks import WebhooksApi
from registry.api.public import ApiKeyAuthenticator, PublicServices, public_app
from registry.catalog.group_logs import SqlGroupLogs
from registry.catalog.platforms import SqlPlatformSettings
from registry.composition.listener import Listener
from registry.composition.portal import compose_portal
from registry.composition.shared import Shared
from registry.composition.use_cases import UseCases
from registry.config import AdminRoute
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.imports.verification import ImageVerifier
from registry.services.group_logs import GroupLogs
from registry.services.hardware import HardwareFile
from registry.services.image_checks import CHECKS_PER_MINUTE, ImageChecks
from registry.services.policies import OrganizationPolicies
from registry.services.prefetch import Prefetch
from registry.upstream.edges import HttpEdgeClient
from registry.upstream.from_settings import upstream_client


def compose_api(shared: Shared, nudge: Callable[[], None], main: Listener, admin: Listener | None) -> None:
    """Build the role `api`: the public API, the operator API and the portal.

    Args:
        nudge: Wakes the import worker of this process.
        main: Gets what customers and nodes call, and the rest unless `admin` gets it.
        admin: The administration listener, if there is one.
    """
    settings, use_cases = shared.settings, UseCases(shared, nudge)
    rate = settings.api_requests_per_minute
    authenticate = ApiKeyAuthenticator(
        keys=use_cases.api_keys,
        is_operator_key=shared.is_operator_key,
        refusals=shared.key_refusals,
        rates=RedisRateLimiter(shared.redis, rate) if rate else None,
        changes=shared.change_rates,
    )
    private = admin or main
    moved = settings.admin_routes
    services = _public_services(shared, use_cases)
    main.mounted[public.PREFIX] = public_app(services, authenticate)
    platforms = SqlPlatformSettings(shared.database, shared.clock)
    checks = _image_checks(shared, platforms)
    parts = _operator_parts(shared, use_cases, platforms, checks)
    operators = private if AdminRoute.OPERATOR in moved else main
    operators.mounted[operator.PREFIX] = full = _operator_app(shared, parts, frozenset(Access))
    if operators is not main:
        main.mounted[operator.PREFIX] = _operator_app(shared, parts, operator.NODES_OWN)
    (private if AdminRoute.PORTAL in moved else main).portal = compose_portal(shared, use_cases, checks)
    private.routes += ApiReference(partial(document, [main.mounted[public.PREFIX], full])).routes()


def _public_services(shared: Shared, use_cases: UseCases) -> PublicServices:
    return PublicServices(
        groups=use_cases.groups,
        instances=shared.instances,
        quotas=shared.organization_quotas,
        logs=GroupLogs(SqlGroupLogs(shared.database), shared.groups),
        webhooks=use_cases.webhooks,
        hardware=HardwareFile(shared.settings.hardware_file),
    )


def _operator_parts(
    shared: Shared, use_cases: UseCases, platforms: SqlPlatformSettings, checks: ImageChecks
) -> list[Part]:
    edge_client = HttpEdgeClient()
    shared.stack.push_async_callback(edge_client.close)
    prefetch = Prefetch(shared.edges, shared.ciphertexts, edge_client, shared.trail)
    return [
        OrganizationsApi(shared.organizations, use_cases.api_keys),
        EncryptionApi(shared.encryption_policies),
        QuotasApi(shared.organization_quotas),
        WebhooksApi(use_cases.webhooks),
        NodesApi(use_cases.nodes, shared.nodes, use_cases.enrolment),
        EdgesApi(shared.edge_keys, prefetch),
        InstancesApi(shared.instances),
        PullTokensApi(use_cases.pull_tokens, shared.authority, shared.origin),
        ImagesApi(use_cases.images, use_cases.sboms),
        PlatformsApi(platforms, shared.settings.platforms),
        PoliciesApi(OrganizationPolicies(shared.policies, checks, shared.clock)),
    ]


def _image_checks(shared: Shared, platforms: SqlPlatformSettings) -> ImageChecks:
    settings = shared.settings
    client = upstream_client(settings)
    shared.stack.push_async_callback(client.close)
    return ImageChecks(
        client=client,
        verifier=ImageVerifier(shared.policies, shared.clock),
        settings=platforms,
        platforms=settings.platforms,
        quotas=shared.organization_quotas,
        max_image_bytes=settings.max_image_bytes,
        take_rate=RedisRateLimiter(shared.redis, CHECKS_PER_MINUTE).take,
    )


def _operator_app(shared: Shared, parts: Sequence[Part], accesses: Container[Access]) -> web.Application:
    return operator.operator_app(
        parts,
        EventsApi(shared.events),
        is_operator_key=shared.is_operator_key,
        refusals=shared.key_refusals,
        verifier=shared.verifier,
        accesses=accesses,
    )
