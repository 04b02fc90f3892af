"""Form for a group's next version: a new image, or the same one imported again."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.errors import InvalidInputError
from registry.model.access import Role
from registry.model.groups import GroupKey
from registry.portal.group import GROUP, key_of
from registry.portal.guard import Form, see_other
from registry.portal.image_check import Checked, ImageCheckViews
from registry.portal.imageform import Faults, ImageForm, faults_by_field
from registry.portal.sessions import SignedInUser
from registry.services.views import GroupChange

_IMAGE: Final = GROUP + "/image"


class ImageViews(ImageCheckViews):
    """Views of the form for a group's next version."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(_IMAGE, self._guard.show(self.ask, needs=Role.MEMBER)),
            web.post(_IMAGE + "/check", self._guard.inspect(self.check, needs=Role.MEMBER)),
            web.post(_IMAGE, self._guard.act(self.update, needs=Role.MEMBER, again=self.again)),
        ]

    async def ask(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the form."""
        return await self._form(visitor, key_of(request, visitor), None)

    async def again(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Show the form with what was entered before the session expired."""
        return await self._form(visitor, key_of(request, visitor), form)

    async def check(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Check the image and its credentials without importing it. Secrets are not shown again."""
        key = key_of(request, visitor)
        checked = await self._check(visitor, key.organization, form, key)
        if "HX-Request" in request.headers:
            return self._pages.page("checked.html", visitor, checked=checked)
        return await self._form(visitor, key, form, checked=checked)

    async def update(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.StreamResponse:
        """Import the image, or show the form with its errors. Secrets must be entered again."""
        key, typed = key_of(request, visitor), ImageForm.read(form.get("image", ""))
        if faults := typed.faults(form):
            return await self._form(visitor, key, form, faults_by_field(InvalidInputError("", faults)))
        change = GroupChange(
            amend=lambda spec: spec,
            image=typed.image,
            registry_authentication=typed.authentication(form),
            pull=True,
        )
        try:
            await self._services.groups.update(key, change, source=peer_of(request).source)
        except InvalidInputError as error:
            return await self._form(visitor, key, form, faults_by_field(error))
        return see_other(f"/groups/{key.repository}")

    async def _form(
        self,
        visitor: SignedInUser,
        key: GroupKey,
        form: Form | None,
        errors: Faults | None = None,
        *,
        checked: Checked | None = None,
    ) -> web.Response:
        group = (await self._services.groups.get(key)).group
        image = group.image if form is None else form.get("image", "")
        was_private = await self._services.overview.was_private(group.id, group.image)
        return self._pages.page(
            "group_image.html",
            visitor,
            status=HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK,
            group=group,
            typed=ImageForm.read(image),
            private=was_private if form is None else bool(form.get("private")),
            was_private=was_private,
            check_url=f"/groups/{key.repository}/image/check",
            checked=checked,
            errors=errors or {},
        )
