"""Actions on a group and its instances, each after a confirmation that says what will happen."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from auth.errors import TokenNotFoundError
from registry.api.http.peers import peer_of
from registry.errors import InvalidInputError, NotFoundError
from registry.model.access import Role
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.instances import InstanceState
from registry.portal.group import GROUP, key_of
from registry.portal.guard import Form, see_other
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

_INSTANCE: Final = GROUP + "/instances/{instance}"
_MAX_VERSION_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Question before an action.

    Attributes:
        title: The question.
        effects: What will happen, in sentences.
        button: Label of the button that confirms.
    """

    title: str
    effects: tuple[str, ...]
    button: str
    is_dangerous: bool = False


class GroupActions(Views):
    """Views of the actions on groups and instances."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        show = partial(self._guard.show, needs=Role.MEMBER)
        act = partial(self._guard.act, needs=Role.MEMBER)
        on_group = {"start": self.start, "stop": self.stop, "delete": self.delete}
        on_instance = {
            "restart": self.restart,
            "recreate": self.recreate,
            "reallocate": self.reallocate,
        }
        return [
            web.get(GROUP + "/{action:start|stop|delete}", show(self.ask)),
            *(web.post(f"{GROUP}/{name}", act(action)) for name, action in on_group.items()),
            web.post(f"{GROUP}/rollback", act(self.roll_back)),
            web.get(_INSTANCE + "/{action:restart|recreate|reallocate}", show(self.ask_instance)),
            *(web.post(f"{_INSTANCE}/{name}", act(action)) for name, action in on_instance.items()),
            web.post(f"{_INSTANCE}/complete", self._guard.act(self.complete, needs=Role.OPERATOR)),
        ]

    async def ask(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Ask for confirmation before a group is started, stopped or deleted."""
        key = key_of(request, visitor)
        group = (await self._services.groups.get(key)).group
        nodes = len(await self._services.instances.list(key))
        asked = _QUESTIONS[request.match_info["action"]](group, nodes)
        return self._pages.page("confirm.html", visitor, key=key, action=request.path, asked=asked)

    async def ask_instance(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Ask for confirmation before an instance is restarted, recreated or reallocated."""
        key = key_of(request, visitor)
        view = await self._services.instances.get(key, request.match_info["instance"])
        asked = instance_question(request.match_info["action"], view.instance.node_id)
        return self._pages.page("confirm.html", visitor, key=key, action=request.path, asked=asked)

    async def delete(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Delete a group."""
        await self._services.groups.delete(key_of(request, visitor), source=peer_of(request).source)
        return see_other("/")

    async def start(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Start a group."""
        key = key_of(request, visitor)
        await self._services.groups.start(key, source=peer_of(request).source)
        return _to_group(key)

    async def stop(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Stop a group."""
        key = key_of(request, visitor)
        await self._services.groups.stop(key, source=peer_of(request).source)
        return _to_group(key)

    async def roll_back(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Return a group to an earlier version."""
        key, version = key_of(request, visitor), form.get("version", "")
        if not version.isascii() or not version.isdigit() or len(version) > _MAX_VERSION_DIGITS:
            raise InvalidInputError("The form names no version. Go back to the group, and choose one.")
        await self._services.groups.roll_back(key, int(version), source=peer_of(request).source)
        return _to_group(key)

    async def restart(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Ask the scheduler to restart an instance's container."""
        key, instance = key_of(request, visitor), request.match_info["instance"]
        await self._services.instances.restart(key, instance, source=peer_of(request).source)
        return _to_group(key)

    async def recreate(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Ask the scheduler to create an instance's container again."""
        key, instance = key_of(request, visitor), request.match_info["instance"]
        await self._services.instances.recreate(key, instance, source=peer_of(request).source)
        return _to_group(key)

    async def reallocate(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Release an instance's node, so that another node can take its place."""
        key, instance = key_of(request, visitor), request.match_info["instance"]
        await self._services.instances.reallocate(key, instance, source=peer_of(request).source)
        return _to_group(key)

    async def complete(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Report that an instance's node has the image, which ends the session of its pull."""
        key = key_of(request, visitor)
        view = await self._services.instances.get(key, request.match_info["instance"])
        with suppress(TokenNotFoundError):
            await self._services.authority.complete((view.newer or view.instance).token_id)
        source = peer_of(request).source
        await self._services.instances.report(view.instance.id, key, InstanceState.CREATING, source=source)
        return _to_group(key)


def start_question(group: Group, _nodes: int) -> Confirmation:
    """Return the question before a group is started."""
    name = group.key.name
    if group.status is GroupStatus.PENDING and group.served_version is None:
        effect = "The group is deployed as soon as its image is stored."
    else:
        effect = (
            f"The group is deployed: its scheduler may place {_count(group.replicas, 'replica')} on nodes."
        )
    return Confirmation(f"Start {name}?", (effect,), "Start")


def stop_question(group: Group, nodes: int) -> Confirmation:
    """Return the question before a group is stopped."""
    effects = [
        f"{_count(nodes, 'node')} will be released, and running pulls end."
        if nodes
        else "No node has the group at the moment.",
        "Pull tokens of the group are revoked. Its image stays stored.",
    ]
    if group.status is GroupStatus.PENDING:
        effects.append("The running import continues.")
    return Confirmation(f"Stop {group.key.name}?", tuple(effects), "Stop", is_dangerous=True)


def delete_question(group: Group, nodes: int) -> Confirmation:
    """Return the question before a group is deleted."""
    effects = [
        "The group, its configuration and all its versions are deleted. This cannot be undone.",
        "Its pull tokens are revoked at once"
        + (f", and {_count(nodes, 'node')} released." if nodes else "."),
    ]
    if group.status is GroupStatus.PENDING:
        effects.insert(1, "The running import ends.")
    return Confirmation(f"Delete {group.key.name}?", tuple(effects), "Delete", is_dangerous=True)


_QUESTIONS: Final[Mapping[str, Callable[[Group, int], Confirmation]]] = {
    "start": start_question,
    "stop": stop_question,
    "delete": delete_question,
}


def instance_question(action: str, node_id: str) -> Confirmation:
    """Return the question before an action on an instance. Raises NotFoundError: no such action."""
    match action:
        case "restart":
            effect = "The scheduler stops and starts the container on this node. Its files stay."
            return Confirmation(f"Restart the container on {node_id}?", (effect,), "Restart")
        case "recreate":
            effect = "The scheduler creates the container again on this node, from the stored image."
            lost = "What the container has written is lost."
            return Confirmation(
                f"Recreate the container on {node_id}?", (effect, lost), "Recreate", is_dangerous=True
            )
        case "reallocate":
            effects = (
                "The node is released, and its pull tokens are revoked at once. A running pull ends.",
                "Another node can take its place. It needs a token of its own.",
            )
            return Confirmation(f"Reallocate {node_id}?", effects, "Reallocate", is_dangerous=True)
    raise NotFoundError("There is no such action.")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _to_group(key: GroupKey) -> web.Response:
    return see_other(f"/groups/{key.repository}")
