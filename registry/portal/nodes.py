"""Pages of nodes, for operators: list, create, renew the secret, strike off."""

from typing import Final

from aiohttp import web
from pydantic import ValidationError

from auth.ports import Binding
from auth.secret import Secret
from registry.api.http.peers import peer_of
from registry.api.operator.nodes import NewNode
from registry.errors import ConflictError, InvalidInputError
from registry.model.access import Role
from registry.model.figures import FigureKind
from registry.model.nodes import Runtime
from registry.portal.charts import DayChart, Series, days_until
from registry.portal.guard import Form, see_other
from registry.portal.sessions import SignedInUser
from registry.portal.shown_once import SecretViews, fields_of, new_form_id, status_of
from registry.sizes import readable_bytes

NODES: Final = "/nodes"
MAX_LISTED: Final = 200

_NODE: Final = NODES + "/{node_id}"
_SECRET_USE: Final = "Store it on the node as $CRISPER_NODE_SECRET."  # noqa: S105 (a sentence)
_ENROLMENT_USE: Final = "Give it to crisper node enroll on the node, before it expires."
_RULES: Final = {
    "node_id": "An id has up to 128 letters, digits, dots, hyphens and underscores.",
    "binding": "Choose how the node authenticates.",
    "networks": "Networks are written as 192.0.2.0/24 or 2001:db8::/32, at most 32, separated by spaces.",
    "encryption_key": "The encryption key is a public key in PEM.",
    "runtime": "Choose one of the runtimes.",
}


_CHART_DAYS: Final = 30
_CHART_NOTE: Final = "Bytes of layers that the node received on each of the last 30 days (UTC)."


class NodeViews(SecretViews):
    """Views of nodes."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(NODES, self._guard.show(self.index, needs=Role.OPERATOR)),
            web.post(NODES, self._guard.act(self.create, needs=Role.OPERATOR)),
            web.get(_NODE, self._guard.show(self.show, needs=Role.OPERATOR)),
            web.post(_NODE + "/secret", self._guard.act(self.renew, needs=Role.OPERATOR)),
            web.get(_NODE + "/strike-off", self._guard.show(self.ask_strike_off, needs=Role.OPERATOR)),
            web.post(_NODE + "/strike-off", self._guard.act(self.strike_off, needs=Role.OPERATOR)),
        ]

    async def index(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the nodes whose id contains the words, and the form for a new one."""
        return await self._list(visitor, words=request.query.get("q", "").strip()[:128])

    async def create(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Create a node and show its secret, or enrolment secret, once."""
        if (earlier := await self._guard.begin(visitor, form)) is not None:
            return see_other(earlier or NODES)
        try:
            new = _read(form)
            made = await self._services.node_registrations.create(
                new.node_id,
                new.binding,
                new.networks,
                reads_zstd=None,
                encryption_key=new.encryption_key,
                runtime=new.runtime,
                source=peer_of(request).source,
            )
        except ValidationError as error:
            rules = [rule for field, rule in _RULES.items() if field in fields_of(error)]
            return await self._list(visitor, refusal=" ".join(rules))
        except (ConflictError, InvalidInputError) as error:
            return await self._list(visitor, refusal=str(error))
        await self._guard.end(visitor, form, _page_of(new.node_id))
        secret = made.offer.secret if made.offer else made.secret
        assert secret is not None  # noqa: S101 (a node has one of the two)
        return self._once(visitor, new.node_id, secret, enrols=made.offer is not None)

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show a node."""
        node = await self._services.node_registrations.get(request.match_info["node_id"])
        days = days_until(self._services.clock.now().date(), _CHART_DAYS)
        sent = await self._services.figures.by_day(FigureKind.EGRESS_NODE, days[0], label=node.node_id)
        series = [Series("Received", sent)]
        chart = DayChart("egress", "Data received", _CHART_NOTE, days, series, readable_bytes)
        return self._pages.page("node.html", visitor, node=node, form_id=new_form_id(), chart=chart)

    async def renew(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Replace a node's secret, or offer it another enrolment, and show the new secret once."""
        node_id, source = request.match_info["node_id"], peer_of(request).source
        node = await self._services.node_registrations.get(node_id)
        if (earlier := await self._guard.begin(visitor, form)) is not None:
            return see_other(earlier or _page_of(node_id))
        enrols = node.binding is Binding.CERTIFICATE
        if enrols:
            secret = (await self._services.node_registrations.offer(node_id, source=source)).secret
        else:
            secret = await self._services.node_registrations.rotate_secret(node_id, source=source)
        await self._guard.end(visitor, form, _page_of(node_id))
        return self._once(visitor, node_id, secret, enrols=enrols)

    async def ask_strike_off(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Ask whether to strike off a node."""
        node = await self._services.node_registrations.get(request.match_info["node_id"])
        return self._pages.page("strike_off.html", visitor, node=node)

    async def strike_off(self, request: web.Request, _visitor: SignedInUser, _form: Form) -> web.Response:
        """Revoke a node and its tokens."""
        node_id = request.match_info["node_id"]
        await self._services.node_registrations.revoke(node_id, source=peer_of(request).source)
        return see_other(_page_of(node_id))

    def _once(self, visitor: SignedInUser, node_id: str, secret: Secret, *, enrols: bool) -> web.Response:
        title = f"{'Enrolment secret' if enrols else 'Secret'} of {node_id}"
        use = _ENROLMENT_USE if enrols else _SECRET_USE
        return self._show_secret(visitor, secret, title=title, use=use, url=_page_of(node_id), here="nodes")

    async def _list(self, visitor: SignedInUser, *, words: str = "", refusal: str = "") -> web.Response:
        found = await self._services.nodes.list(containing=words, limit=MAX_LISTED + 1)
        return self._pages.page(
            "nodes.html",
            visitor,
            status=status_of(refusal),
            nodes=found[:MAX_LISTED],
            has_more=len(found) > MAX_LISTED,
            words=words,
            refusal=refusal,
            runtimes=list(Runtime),
            form_id=new_form_id(),
        )


def _read(form: Form) -> NewNode:
    """Validate the form as the operator API does. Raises ValidationError."""
    return NewNode.model_validate(
        {
            "node_id": form.get("node_id", "").strip(),
            "binding": form.get("binding", ""),
            "networks": tuple(form.get("networks", "").split()),
            "encryption_key": form.get("encryption_key", "").strip() or None,
            "runtime": form.get("runtime", "") or None,
        }
    )


def _page_of(node_id: str) -> str:
    return f"{NODES}/{node_id}"
