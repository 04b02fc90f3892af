"""What a listener serves, and whose certificates it accepts."""

from dataclasses import dataclass, field

from aiohttp import web

from auth.nodes.ca import load_certificate
from auth.nodes.trust import ClientTrust, Issuers
from registry.api.http.peers import Peers
from registry.api.root import root_app
from registry.composition.shared import Shared
from registry.portal import Portal


@dataclass
class Listener:
    """What one listener serves."""

    mounted: dict[str, web.Application] = field(default_factory=dict)
    routes: list[web.RouteDef] = field(default_factory=list)
    portal: Portal | None = None

    def application(self, shared: Shared) -> web.Application:
        """Return the root application."""
        root = root_app(
            self.mounted, self.routes, shared.metrics, _peers(shared), shared.origin, pacing=shared.pacing
        )
        if self.portal is not None:
            self.portal.mount(root)
        return root


def _peers(shared: Shared) -> Peers:
    node_ca, proxy_ca = shared.settings.node_ca, shared.settings.proxy_ca
    issuers = Issuers([load_certificate(shared.data.node_ca)])
    if node_ca is not None:
        issuers += Issuers.load(node_ca)
    proxies = ClientTrust(Issuers.load(proxy_ca)) if proxy_ca is not None else None
    return Peers(ClientTrust(issuers), proxies, shared.clock.now)
