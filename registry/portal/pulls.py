"""Pages for operators that mint a pull token, show the pull commands, and follow the pull."""

import secrets
from http import HTTPStatus
from typing import Final

from aiohttp import web

from auth.authority import DEFAULT_TTL_S
from auth.ports import Binding
from auth.records import MAX_TTL_S, TokenState, TokenView
from registry.errors import ConflictError, NotFoundError
from registry.model.access import Role
from registry.model.encryption import Encryption
from registry.model.groups import GroupKey
from registry.model.images import Variant, WantedVariant
from registry.portal.commands import Pull
from registry.portal.group import GROUP, key_of
from registry.portal.guard import Form, see_other
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.services.pull_tokens import Designation

MAX_LISTED_NODES: Final = 200

_MINT: Final = GROUP + "/mint"
_TOKEN: Final = GROUP + "/tokens/{token_id}"
_LIFETIMES_S: Final = (300, DEFAULT_TTL_S, MAX_TTL_S)
_MOVING: Final = frozenset({TokenState.MINTED, TokenState.ACTIVE})
_MOVING_S: Final = 2
_FORM_ID_BYTES: Final = 16


class PullViews(Views):
    """Views of a group's pull tokens."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(_MINT, self._guard.show(self.ask, needs=Role.OPERATOR)),
            web.post(_MINT, self._guard.act(self.mint, needs=Role.OPERATOR)),
            web.get(_TOKEN, self._guard.show(self.show, needs=Role.OPERATOR)),
            web.post(_TOKEN + "/revoke", self._guard.act(self.revoke, needs=Role.OPERATOR)),
            web.post(_TOKEN + "/complete", self._guard.act(self.complete, needs=Role.OPERATOR)),
        ]

    async def ask(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the form for a new token."""
        return await self._form(visitor, key_of(request, visitor))

    async def mint(self, request: web.Request, visitor: SignedInUser, form: Form) -> web.Response:
        """Mint a token, and show it only this once: a reload shows the token's page."""
        key, node_id = key_of(request, visitor), form.get("node", "").strip()
        earlier = await self._guard.begin(visitor, form)
        if earlier is not None:
            return see_other(earlier or f"/groups/{key.repository}")
        host = self._services.origin.host(
            request
        )  # first, because it may fail: a token without a reference is useless
        try:
            made = await self._services.tokens.mint(
                key,
                node_id,
                _lifetime_s(form.get("ttl", "")),
                _variant(form.get("variant", "")),
                _encryption(form.get("encryption", "")),
            )
        except (NotFoundError, ConflictError) as error:
            await self._services.groups.get(key)
            return await self._form(visitor, key, refusal=str(error))
        await self._guard.end(visitor, form, _page_of(key, made.minted.token_id))
        node = await self._services.nodes.get(node_id)
        binding = node.binding if node is not None else Binding.SECRET
        view = await self._services.authority.show(made.minted.token_id)
        return self._show_once(request, visitor, made, view, host=host, binding=binding)

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the progress of a token's pull, but not the token itself."""
        key = key_of(request, visitor)
        view = await self._of_group(key, request.match_info["token_id"])
        every_s = _MOVING_S if view.state in _MOVING else 0
        return self._pages.live(
            request, visitor, "token.html", "token_live.html", every_s=every_s, key=key, token=view
        )

    async def revoke(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Revoke a token."""
        key = key_of(request, visitor)
        view = await self._of_group(key, request.match_info["token_id"])
        await self._services.authority.revoke(view.token_id)
        return see_other(_page_of(key, view.token_id))

    async def complete(self, request: web.Request, visitor: SignedInUser, _form: Form) -> web.Response:
        """Report that a node has the image, which ends the token's session."""
        key = key_of(request, visitor)
        view = await self._of_group(key, request.match_info["token_id"])
        await self._services.authority.complete(view.token_id)
        return see_other(_page_of(key, view.token_id))

    def _show_once(
        self,
        request: web.Request,
        visitor: SignedInUser,
        made: Designation,
        view: TokenView,
        *,
        host: str,
        binding: Binding,
    ) -> web.Response:
        pull = Pull(
            reference=f"{host}/{made.key.repository}:v{made.version}",
            node_id=made.node_id,
            token=made.minted.token.reveal(),
            binding=binding,
            plain_http=not self._services.origin.is_secure(request),
        )
        url = _page_of(made.key, view.token_id)
        part = self._pages.part(
            "token_live.html", visitor, url=url, every_s=_MOVING_S, key=made.key, token=view
        )
        return self._pages.page(
            "minted.html",
            visitor,
            key=made.key,
            version=made.version,
            token=view,
            commands=pull.commands(),
            needs_secret=binding is Binding.SECRET,
            url=url,
            live=part.html,
        )

    async def _form(self, visitor: SignedInUser, key: GroupKey, *, refusal: str = "") -> web.Response:
        view = await self._services.groups.get(key)
        group, version = view.group, view.group.served_version
        image = await self._services.catalog.image(group.id, version) if version is not None else None
        nodes = [node for node in await self._services.nodes.list() if node.revoked_at is None]
        return self._pages.page(
            "mint.html",
            visitor,
            status=HTTPStatus.BAD_REQUEST if refusal else HTTPStatus.OK,
            group=group,
            nodes=nodes if len(nodes) <= MAX_LISTED_NODES else [],
            has_nodes=bool(nodes),
            lifetimes=_LIFETIMES_S,
            usual=DEFAULT_TTL_S,
            policy=await self._services.policies.effective(key.organization),
            has_zstd=image is not None and image.zstd is not None,
            refusal=refusal,
            form_id=secrets.token_urlsafe(_FORM_ID_BYTES),
        )

    async def _of_group(self, key: GroupKey, token_id: str) -> TokenView:
        view = await self._services.authority.show(token_id)
        if view.repository != key.repository:
            raise NotFoundError("The group has no such token.")
        return view


def _page_of(key: GroupKey, token_id: str) -> str:
    return f"/groups/{key.repository}/tokens/{token_id}"


def _lifetime_s(text: str) -> int:
    return next((seconds for seconds in _LIFETIMES_S if text == str(seconds)), DEFAULT_TTL_S)


def _variant(text: str) -> Variant | None:
    return next((wanted.choice for wanted in WantedVariant if text == wanted.value), None)


def _encryption(text: str) -> Encryption | None:
    return next((wanted for wanted in Encryption if text == wanted.value), None)
