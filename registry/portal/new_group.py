"""Form for a new container group."""

import json
import re
from http import HTTPStatus
from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.api.public.prototype import ContainerGroupPrototype
from registry.api.public.shapes import NAME_PATTERN
from registry.errors import ConflictError, InvalidInputError
from registry.model.access import Role
from registry.model.groups import GroupKey
from registry.portal.guard import Form, see_other
from registry.portal.image_check import Checked, ImageCheckViews
from registry.portal.imageform import Faults, ImageForm, faults_by_field
from registry.portal.numbers import whole
from registry.portal.sessions import SignedInUser

_CHECK: Final = "/groups/new/check"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
_NAME_RULE: Final = (
    "Use 2 to 63 lower-case letters, digits and hyphens. Start with a letter, and do not end with a hyphen."
)
_DEFAULTS: Final = {
    "project": "default",
    "name": "",
    "image": "",
    "private": "",
    "autostart": "",
    "cpu": "1",
    "memory": "1024",
    "replicas": "1",
    "restart": "always",
}


class NewGroupViews(ImageCheckViews):
    """Views of the form for a new group."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/groups/new", self._guard.show(self.new, needs=Role.MEMBER)),
            web.get("/groups/new/reading", self._guard.show(self.read, needs=Role.MEMBER)),
            web.post(_CHECK, self._guard.inspect(self.check, needs=Role.MEMBER)),
            web.post("/groups/new", self._guard.act(self.create, needs=Role.MEMBER, again=self.again)),
        ]

    async def new(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the form for a new group."""
        return await self._form(visitor, {**_DEFAULTS, "image": request.query.get("image", "")})

    async def read(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the parsed image reference while the user types, and the credential form of its registry."""
        typed = ImageForm.read(request.query.get("image", ""))
        swap = typed.reference is not None and request.query.get("kind") != typed.kind
        return self._pages.page("reading_live.html", visitor, typed=typed, swap=swap, errors={})

    async def check(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Check the image and its credentials without importing it. Secrets are not shown again."""
        organization = visitor.caller.organization or form.get("organization", "")
        checked = await self._check(visitor, organization, form)
        if "HX-Request" in request.headers:
            return self._pages.page("checked.html", visitor, checked=checked)
        return await self._form(visitor, {**_DEFAULTS, **form}, checked=checked)

    async def create(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.StreamResponse:
        """Create the group, or show the form with its errors. Secrets must be entered again."""
        form = {**_DEFAULTS, **form}
        try:
            key, prototype = self._understood(visitor, form)
            await self._services.groups.create(key, prototype.as_new_group(), source=peer_of(request).source)
        except ConflictError as error:
            return await self._form(visitor, form, {"name": [str(error)]})
        except InvalidInputError as error:
            return await self._form(visitor, form, faults_by_field(error))
        return see_other(f"/groups/{key.repository}")

    async def again(self, _request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Show the form with what was entered before the session expired."""
        return await self._form(visitor, {**_DEFAULTS, **form})

    @staticmethod
    def _understood(visitor: SignedInUser, form: Form) -> tuple[GroupKey, ContainerGroupPrototype]:
        key = GroupKey(
            visitor.caller.organization or form.get("organization", ""), form["project"], form["name"]
        )
        named = {"organization": key.organization, "project": key.project, "name": key.name}
        faults = {field: [_NAME_RULE] for field, name in named.items() if not _NAME.fullmatch(name)}
        typed = ImageForm.read(form["image"])
        faults |= typed.faults(form)
        if faults:
            raise InvalidInputError("the form", faults)
        document = {
            "name": key.name,
            "container": {
                "image": typed.image,
                "resources": {"cpu": whole(form["cpu"]), "memory": whole(form["memory"])},
                "registry_authentication": typed.authentication(form),
            },
            "autostart_policy": bool(form["autostart"]),
            "replicas": whole(form["replicas"]),
            "restart_policy": form["restart"],
        }
        return key, ContainerGroupPrototype.read(json.dumps(document))

    async def _form(
        self,
        visitor: SignedInUser,
        form: Form,
        errors: Faults | None = None,
        *,
        checked: Checked | None = None,
    ) -> web.Response:
        return self._pages.page(
            "new_group.html",
            visitor,
            status=HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK,
            form={name: value for name, value in form.items() if "." not in name},
            organizations=await self._services.overview.organizations() if visitor.is_operator else [],
            typed=ImageForm.read(form["image"]),
            private=bool(form["private"]),
            check_url=_CHECK,
            checked=checked,
            errors=errors or {},
        )
