"""What the portal's pages show and do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from auth.authority import Authority
from auth.ports import Clock
from auth.signing_keys import SigningKey
from registry.api.http.origin import Origin
from registry.catalog.overview import SqlOverview
from registry.model.groups import GroupCatalog
from registry.model.imports import ProgressStore
from registry.model.nodes import NodeRegistry
from registry.services.groups import ContainerGroups
from registry.services.instances import Instances
from registry.services.pull_tokens import PullTokens


@dataclass(frozen=True, slots=True)
class Services:
    """The use-cases behind the pages, called directly.

    Attributes:
        probes: What the server's work depends on, by the name that operators know it by.
        signing_keys: The keys that there are now.
        docs_url: Where the documentation is published; None when it is not.
    """

    groups: ContainerGroups
    instances: Instances
    catalog: GroupCatalog
    overview: SqlOverview
    board: ProgressStore
    nodes: NodeRegistry
    tokens: PullTokens
    authority: Authority
    origin: Origin
    clock: Clock
    probes: Mapping[str, Callable[[], Awaitable[None]]]
    signing_keys: Callable[[], Sequence[SigningKey]]
    docs_url: str | None = None
