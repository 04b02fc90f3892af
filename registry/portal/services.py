"""What the portal's pages show and do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from auth.authority import Authority
from auth.ports import Clock
from auth.signing_keys import SigningKey
from registry.api.origin import Origin
from registry.catalog.overview import SqlOverview
from registry.groups import ContainerGroups, Instances
from registry.import_ports import ProgressBoard
from registry.ports import GroupCatalog, NodeRegistry
from registry.pull.tokens import PullTokens


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
    board: ProgressBoard
    nodes: NodeRegistry
    tokens: PullTokens
    authority: Authority
    origin: Origin
    clock: Clock
    probes: Mapping[str, Callable[[], Awaitable[None]]]
    signing_keys: Callable[[], Sequence[SigningKey]]
    docs_url: str | None = None
