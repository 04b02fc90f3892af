"""Form that edits a group: replicas, resources, environment, command, name and restart policy."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.public.patch import ContainerGroupPatch
from registry.api.public.prototype import RestartPolicy
from registry.errors import InvalidInputError, PreconditionFailedError
from registry.model.access import Role
from registry.portal.group import GROUP, key_of
from registry.portal.guard import Form, see_other
from registry.portal.imageform import Faults, faults_by_field
from registry.portal.lines import items_of, lines_of, lines_of_variables, variables_of
from registry.portal.numbers import whole
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.services.views import GroupView

_EDIT: Final = GROUP + "/edit"
_NUMBERS: Final = ("replicas",)
_RESOURCES: Final = ("cpu", "memory", "storage_amount", "shm_size")
_TEXTS: Final = ("display_name", "readme")
_CHANGED: Final = "The group has changed since this form was opened. Compare with the group, and save again."


class _Edit(ContainerGroupPatch):
    """Changes of a group. SaladCloud's API has no change of the restart policy."""

    restart_policy: RestartPolicy | None = None


class EditViews(Views):
    """Views of the form that edits a group."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(_EDIT, self._guard.show(self.ask, needs=Role.MEMBER)),
            web.post(_EDIT, self._guard.act(self.save, needs=Role.MEMBER, again=self.again)),
        ]

    async def ask(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the form. Values of environment variables are left out unless they are asked for."""
        view = await self._services.groups.get(key_of(request, visitor))
        return self._form(visitor, view, _fields_of(view, with_values=request.query.get("values") == "shown"))

    async def again(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Show the form with what was entered before the session expired."""
        view = await self._services.groups.get(key_of(request, visitor))
        return self._form(visitor, view, {**_fields_of(view, with_values=False), **form})

    async def save(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.StreamResponse:
        """Change what differs from the group, or show the form with its errors."""
        key = key_of(request, visitor)
        view = await self._services.groups.get(key)
        try:
            patch = _patch(_fields_of(view, with_values="environment" in form), form, view)
            if patch:
                change = _Edit.read(json.dumps(patch)).as_change(pull=False)
                read = [form.get("etag", "")]
                await self._services.groups.update(key, change, if_match=read, source=peer_of(request).source)
        except PreconditionFailedError:
            return self._form(visitor, view, {**form, "etag": view.etag}, {"form": [_CHANGED]})
        except InvalidInputError as error:
            return self._form(visitor, view, form, _faults(error))
        return see_other(f"/groups/{key.repository}")

    def _form(
        self, visitor: SignedInUser, view: GroupView, form: Form, errors: Faults | None = None
    ) -> web.Response:
        return self._pages.page(
            "edit_group.html",
            visitor,
            status=HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK,
            group=view.group,
            form={
                **dict.fromkeys((*_NUMBERS, *_RESOURCES, *_TEXTS, "restart", "command", "etag"), ""),
                **form,
            },
            names=list(view.group.spec["container"].get("environment_variables") or {}),
            private=False,
            errors=errors or {},
        )


def _fields_of(view: GroupView, *, with_values: bool) -> dict[str, str]:
    """Return a group as the form shows it."""
    spec = view.group.spec
    container = spec["container"]
    fields = {
        **{name: _shown(spec.get(name)) for name in (*_NUMBERS, *_TEXTS)},
        **{name: _shown(container["resources"].get(name)) for name in _RESOURCES},
        "restart": spec["restart_policy"],
        "command": lines_of(container.get("command") or ()),
        "etag": view.etag,
    }
    if with_values:
        fields["environment"] = lines_of_variables(container.get("environment_variables") or {})
    return fields


def _patch(before: Mapping[str, str], form: Form, view: GroupView) -> dict[str, Any]:
    """Return the fields that differ, as a merge patch. Raises InvalidInputError: a text cannot be read."""
    sent = {name: text.replace("\r\n", "\n") for name, text in form.items() if name in before}
    changed = {name: text for name, text in sent.items() if text.strip() != before[name].strip()}
    patch: dict[str, Any] = {name: changed[name].strip() or None for name in _TEXTS if name in changed}
    patch |= {name: whole(changed[name]) for name in _NUMBERS if name in changed}
    if "restart" in changed:
        patch["restart_policy"] = changed["restart"]
    container: dict[str, Any] = {}
    if resources := {name: whole(changed[name]) for name in _RESOURCES if name in changed}:
        container["resources"] = {name: None if value == "" else value for name, value in resources.items()}
    if "command" in changed:
        container["command"] = _read("command", items_of, changed["command"]) or None
    if "environment" in changed:
        wanted = _read("environment", variables_of, changed["environment"])
        known = view.group.spec["container"].get("environment_variables") or {}
        container["environment_variables"] = {**dict.fromkeys(known), **wanted}
    return {**patch, "container": container} if container else patch


def _read(field: str, parse: Any, text: str) -> Any:  # noqa: ANN401 (of two functions)
    try:
        return parse(text)
    except InvalidInputError as error:
        raise InvalidInputError("The form", {field: [str(error)]}) from None


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _faults(error: InvalidInputError) -> Faults:
    """Map the API's field paths to the form's fields."""
    found: dict[str, list[str]] = {}
    for name, reasons in faults_by_field(error).items():
        field = name.removeprefix("container.")
        known = next((each for each in ("command", "environment") if field.startswith(each)), field)
        found.setdefault(known, []).extend(reasons)
    return found
