"""Pages of organizations: their API keys and quotas. Customers see their own."""

from typing import Final

from aiohttp import web
from pydantic import ValidationError

from registry.api.http.peers import peer_of
from registry.api.operator.organizations import NewApiKey, NewOrganization
from registry.errors import ConflictError, NotFoundError, QuotaExceededError
from registry.model.access import KeyScope, Role
from registry.portal.guard import Form, see_other
from registry.portal.quotas import quota_rows
from registry.portal.sessions import SignedInUser
from registry.portal.shown_once import SecretViews, new_form_id, status_of

ORGANIZATIONS: Final = "/organizations"
MAX_LISTED: Final = 200

_ORGANIZATION: Final = ORGANIZATIONS + "/{organization}"
_KEYS: Final = _ORGANIZATION + "/keys"
_REVOKE: Final = _KEYS + "/{key_id}/revoke"
_KEY_USE: Final = "Send it in the header Salad-Api-Key of the public API, or sign in to the portal with it."


class OrganizationViews(SecretViews):
    """Views of organizations and their API keys."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(ORGANIZATIONS, self._guard.show(self.index, needs=Role.OPERATOR)),
            web.post(ORGANIZATIONS, self._guard.act(self.create, needs=Role.OPERATOR)),
            web.get(_ORGANIZATION, self._guard.show(self.show, needs=Role.VIEWER)),
            web.post(_KEYS, self._guard.act(self.create_key, needs=Role.OWNER)),
            web.get(_REVOKE, self._guard.show(self.ask_revoke, needs=Role.OWNER)),
            web.post(_REVOKE, self._guard.act(self.revoke_key, needs=Role.OWNER)),
        ]

    async def index(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the organizations whose name contains the words, and the form for a new one."""
        return await self._list(visitor, words=request.query.get("q", "").strip()[:63])

    async def create(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Create an organization and show its first key once."""
        if (earlier := await self._guard.begin(visitor, form)) is not None:
            return see_other(earlier or ORGANIZATIONS)
        name = form.get("name", "").strip()
        try:
            NewOrganization(name=name)
            made = await self._services.api_keys.create_organization(name, source=peer_of(request).source)
        except ValidationError:
            return await self._list(
                visitor,
                refusal="A name has 2 to 63 lower-case letters, digits and hyphens, the first a letter.",
            )
        except ConflictError as error:
            return await self._list(visitor, refusal=f"{error}. Choose another name.")
        await self._guard.end(visitor, form, _page_of(name))
        title = f"API key of {name}"
        return self._show_secret(
            visitor, made.secret, title=title, use=_KEY_USE, url=_page_of(name), here="organizations"
        )

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show an organization's API keys and quotas."""
        return await self._page(visitor, _name(request))

    async def create_key(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Create an API key and show it once."""
        name = _name(request)
        if (earlier := await self._guard.begin(visitor, form)) is not None:
            return see_other(earlier or _page_of(name))
        label = form.get("label", "").strip()
        try:
            new = NewApiKey.model_validate({"name": label, "scope": form.get("scope", KeyScope.FULL)})
            made = await self._services.api_keys.create(
                name, new.name, new.scope, source=peer_of(request).source
            )
        except ValidationError:
            refusal = "A key's name has 1 to 63 characters, and its scope is one of the list."
            return await self._page(visitor, name, refusal=refusal)
        except QuotaExceededError as error:
            return await self._page(visitor, name, refusal=str(error))
        await self._guard.end(visitor, form, _page_of(name))
        title = f"API key {label} of {name}"
        return self._show_secret(
            visitor, made.secret, title=title, use=_KEY_USE, url=_page_of(name), here="organizations"
        )

    async def ask_revoke(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Ask whether to revoke a key."""
        name = _name(request)
        keys = await self._services.api_keys.list(name)
        key = next((key for key in keys if key.key_id == request.match_info["key_id"]), None)
        if key is None or key.revoked_at is not None:
            raise NotFoundError("The organization has no such key, or it is revoked.")
        others = sum(other.revoked_at is None for other in keys) - 1
        return self._pages.page("revoke_key.html", visitor, key=key, others=others)

    async def revoke_key(self, request: web.Request, _visitor: SignedInUser, _form: Form) -> web.Response:
        """Revoke a key."""
        name, key_id = _name(request), request.match_info["key_id"]
        await self._services.api_keys.revoke(name, key_id, source=peer_of(request).source)
        return see_other(_page_of(name))

    async def _list(self, visitor: SignedInUser, *, words: str = "", refusal: str = "") -> web.Response:
        found = await self._services.organizations.list(containing=words, limit=MAX_LISTED + 1)
        return self._pages.page(
            "organizations.html",
            visitor,
            status=status_of(refusal),
            organizations=found[:MAX_LISTED],
            has_more=len(found) > MAX_LISTED,
            words=words,
            refusal=refusal,
            form_id=new_form_id(),
        )

    async def _page(self, visitor: SignedInUser, name: str, *, refusal: str = "") -> web.Response:
        keys = await self._services.api_keys.list(name)
        return self._pages.page(
            "organization.html",
            visitor,
            status=status_of(refusal),
            organization=name,
            keys=[key for key in keys if key.revoked_at is None],
            revoked=sum(key.revoked_at is not None for key in keys),
            quotas=quota_rows(await self._services.quotas.report(name)),
            refusal=refusal,
            scopes=list(KeyScope),
            form_id=new_form_id(),
        )


def _name(request: web.Request) -> str:
    return request.match_info["organization"]


def _page_of(name: str) -> str:
    return f"{ORGANIZATIONS}/{name}"
