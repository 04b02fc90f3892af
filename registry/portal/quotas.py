"""Form with which operators change an organization's quotas."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from registry.api.http.peers import peer_of
from registry.model.access import Role
from registry.model.quotas import NAMES, UNLIMITED, QuotaReport, parse_limit
from registry.portal.guard import Form, see_other
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.sizes import readable_bytes

_PATH: Final = "/organizations/{organization}/quotas"
_COUNTED: Final = {
    "groups": "Container groups",
    "replicas": "Replicas",
    "stored_bytes": "Storage",
    "imports": "Imports at the same time",
    "import_bytes_per_day": "Imported in 24 hours",
    "api_keys": "API keys",
    "webhooks": "Webhooks",
}
_LABELS: Final = {
    **_COUNTED,
    "spec_bytes": "Size of one group's settings",
    "creations_per_minute": "Groups created per minute",
    "reallocations_per_minute": "Instances reallocated or restarted per minute",
    "image_bytes": "Size of one image",
    "streams": "Open event streams",
}
_RULE: Final = "Write a number, also with a unit (2TB, 40GiB), or none. Empty is the server's default."


class QuotaViews(Views):
    """Views of the form."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(_PATH, self._guard.show(self.ask, needs=Role.OPERATOR)),
            web.post(_PATH, self._guard.act(self.save, needs=Role.OPERATOR, again=self.again)),
        ]

    async def ask(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the form."""
        return await self._form(visitor, _name(request), None, {})

    async def again(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Show the form with what was entered."""
        return await self._form(visitor, _name(request), form, {})

    async def save(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Store the quotas that differ."""
        organization, changes, errors = _name(request), dict[str, int | None](), dict[str, list[str]]()
        overrides = (await self._services.quotas.report(organization)).overrides
        for name in NAMES:
            text = form.get(name, "").strip()
            try:
                limit = parse_limit(text or "default")
            except ValueError:
                errors[name] = [f"{_LABELS[name]}: {_RULE}"]
                continue
            if limit != overrides.get(name):
                changes[name] = limit
        if errors:
            return await self._form(visitor, organization, form, errors)
        if changes:
            await self._services.quotas.set(organization, changes, source=peer_of(request).source)
        return see_other(f"/organizations/{organization}")

    async def _form(
        self, visitor: SignedInUser, organization: str, form: Form | None, errors: Mapping[str, list[str]]
    ) -> web.Response:
        report = await self._services.quotas.report(organization)
        return self._pages.page(
            "quotas.html",
            visitor,
            status=HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK,
            organization=organization,
            labels=_LABELS,
            form=form or {name: _text(limit) for name, limit in report.overrides.items()},
            limits={name: _limit(name, getattr(report.limits, name)) for name in NAMES},
            rule=_RULE,
            private=False,
            errors=errors,
        )


def quota_rows(report: QuotaReport) -> list[tuple[str, int, int | None, bool]]:
    """Return label, use, limit (None is no limit) and whether the unit is bytes, for each counted quota."""
    rows = []
    for quota, label in _COUNTED.items():
        limit = getattr(report.limits, quota)
        used = getattr(report.usage, quota)
        rows.append((label, used, None if limit == UNLIMITED else limit, "bytes" in quota))
    return rows


def _text(limit: int) -> str:
    return "none" if limit == UNLIMITED else str(limit)


def _limit(name: str, limit: int) -> str:
    if limit == UNLIMITED:
        return "no limit"
    return readable_bytes(limit) if "bytes" in name else f"{limit:,}"


def _name(request: web.Request) -> str:
    return request.match_info["organization"]
