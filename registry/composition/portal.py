"""The portal."""

from functools import partial

from auth.secret import Secret
from registry.catalog.group_logs import SqlGroupLogs
from registry.catalog.overview import SqlOverview
from registry.composition.identity import compose_identity, people_of
from registry.composition.shared import Shared
from registry.composition.use_cases import UseCases
from registry.datadir import read_operator_key
from registry.ephemeral.portal_sessions import RedisPortalSessions
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.portal import Portal, PortalSessions, Services
from registry.portal.cookies import PortalCookies
from registry.portal.host import host_facts
from registry.portal.sessions import FAILURES_PER_MINUTE
from registry.services.image_checks import ImageChecks


def compose_portal(shared: Shared, use_cases: UseCases, checks: ImageChecks) -> Portal:
    """Build the portal."""
    sessions = PortalSessions(
        sessions=RedisPortalSessions(shared.redis, shared.settings.portal_session_s),
        key_of=use_cases.api_keys.by_hash,
        operator_key=Secret(read_operator_key(shared.data.operator_key)),
        failures=RedisRateLimiter(shared.redis, FAILURES_PER_MINUTE).take,
        changes=shared.change_rates.take if shared.change_rates else None,
        trail=shared.trail,
        cookies=PortalCookies(shared.origin),
        people=people_of(shared.settings),
    )
    services = Services(
        groups=use_cases.groups,
        instances=shared.instances,
        catalog=shared.groups,
        overview=SqlOverview(shared.database),
        figures=shared.figures,
        group_events=SqlGroupLogs(shared.database),
        progress=shared.progress,
        checks=checks,
        images=use_cases.images,
        sboms=use_cases.sboms,
        nodes=shared.nodes,
        node_registrations=use_cases.nodes,
        organizations=shared.organizations,
        api_keys=use_cases.api_keys,
        quotas=shared.organization_quotas,
        tokens=use_cases.pull_tokens,
        policies=shared.encryption_policies,
        authority=shared.authority,
        origin=shared.origin,
        clock=shared.clock,
        host=partial(host_facts, shared.data.root, shared.settings.tls_cert, shared.clock.now()),
        probes=shared.probes,
        signing_keys=lambda: shared.signing_keys.keys,
        docs_url=shared.settings.docs_url,
    )
    return Portal(sessions, services, compose_identity(shared))
