"""Dependencies of the portal's pages, and the constructor that the views share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from auth.authority import Authority
from auth.ports import Clock
from auth.signing_keys import SigningKey
from registry.api.http.origin import Origin
from registry.catalog.encryption import SqlEncryptionPolicies
from registry.catalog.figures import SqlFigures
from registry.catalog.group_logs import SqlGroupLogs
from registry.catalog.images import SqlImages
from registry.catalog.nodes import SqlNodeRegistry
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.overview import SqlOverview
from registry.model.groups import GroupCatalog
from registry.model.imports import ProgressStore
from registry.portal.guard import Guard
from registry.portal.host import HostFacts
from registry.portal.pages import Pages
from registry.services.api_keys import ApiKeys
from registry.services.groups import ContainerGroups
from registry.services.image_checks import ImageChecks
from registry.services.instances import Instances
from registry.services.nodes import Nodes
from registry.services.pull_tokens import PullTokens
from registry.services.quotas import OrganizationQuotas
from registry.services.sboms import ImageSboms


@dataclass(frozen=True, slots=True)
class Services:
    """Use-cases and stores that the pages call directly.

    Attributes:
        host: Returns facts of this process. Reads files.
        probes: Health checks of the server's dependencies, by display name.
        signing_keys: Returns the current signing keys.
        docs_url: URL of the published documentation, or None.
    """

    groups: ContainerGroups
    instances: Instances
    catalog: GroupCatalog
    overview: SqlOverview
    figures: SqlFigures
    group_events: SqlGroupLogs
    progress: ProgressStore
    checks: ImageChecks
    images: SqlImages
    sboms: ImageSboms
    nodes: SqlNodeRegistry
    node_registrations: Nodes
    organizations: SqlOrganizationDirectory
    api_keys: ApiKeys
    quotas: OrganizationQuotas
    tokens: PullTokens
    policies: SqlEncryptionPolicies
    authority: Authority
    origin: Origin
    clock: Clock
    host: Callable[[], HostFacts]
    probes: Mapping[str, Callable[[], Awaitable[None]]]
    signing_keys: Callable[[], Sequence[SigningKey]]
    docs_url: str | None = None


class Views:
    """Base of all views that need a signed-in user."""

    def __init__(self, guard: Guard, pages: Pages, services: Services) -> None:
        self._guard = guard
        self._pages = pages
        self._services = services
