"""Pages for operators that mint a pull token, show the pull commands, and follow the pull."""

import json
import secrets
from http import HTTPStatus
from typing import Final

from aiohttp import web

from auth.authority import DEFAULT_TTL_S
from auth.ports import Binding
from auth.records import MAX_TTL_S, TokenState, TokenView
from auth.secret import Secret
from registry.errors import ConflictError, NotFoundError
from registry.model.access import Role
from registry.model.encryption import Encryption
from registry.model.groups import GroupKey
from registry.model.images import Variant, WantedVariant
from registry.portal.commands import Pull
from registry.portal.delivery import blobs_of, pace_of
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
        """Mint a token, and redirect to its page, which shows it once."""
        key, node_id = key_of(request, visitor), form.get("node", "").strip()
        earlier = await self._guard.begin(visitor, form)
        if earlier is not None:
            return see_other(earlier or f"/groups/{key.repository}")
        self._services.origin.host(request)  # may fail: a token without a reference is useless
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
        page = _page_of(key, made.minted.token_id)
        await self._guard.leave_secret(visitor, page, _content(made))
        await self._guard.end(visitor, form, page)
        return see_other(page)

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the progress of a token's pull. The first time after the mint, show the token as well."""
        key = key_of(request, visitor)
        view = await self._of_group(key, request.match_info["token_id"])
        secret = await self._guard.take_secret(request, visitor, _page_of(key, view.token_id))
        pull = await self._pull(request, view, secret) if secret is not None else None
        image = await self._services.catalog.image_by_digest(view.repository, view.image_digest)
        return self._pages.live(
            request,
            visitor,
            "token.html",
            "token_live.html",
            every_s=_MOVING_S if view.state in _MOVING else 0,
            key=key,
            token=view,
            pace=pace_of(view.session, view.read_at) if view.session is not None else None,
            blobs=blobs_of(image, view.session),
            commands=pull.commands() if pull is not None else (),
            needs_secret=pull is not None and pull.binding is Binding.SECRET,
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

    async def _pull(self, request: web.Request, view: TokenView, secret: Secret) -> Pull:
        content = json.loads(secret.reveal())
        node = await self._services.nodes.get(view.node_id)
        return Pull(
            reference=f"{self._services.origin.host(request)}/{view.repository}:v{content['version']}",
            node_id=view.node_id,
            token=content["token"],
            binding=node.binding if node is not None else Binding.SECRET,
            plain_http=not self._services.origin.is_secure(request),
        )

    async def _form(self, visitor: SignedInUser, key: GroupKey, *, refusal: str = "") -> web.Response:
        view = await self._services.groups.get(key)
        group, version = view.group, view.group.served_version
        image = await self._services.catalog.image(group.id, version) if version is not None else None
        nodes = await self._services.nodes.list(limit=MAX_LISTED_NODES + 1, only_active=True)
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


def _content(made: Designation) -> Secret:
    """Return what the token's page needs for its commands, beside what the ledger has."""
    return Secret(json.dumps({"token": made.minted.token.reveal(), "version": made.version}))


def _page_of(key: GroupKey, token_id: str) -> str:
    return f"/groups/{key.repository}/tokens/{token_id}"


def _lifetime_s(text: str) -> int:
    return next((seconds for seconds in _LIFETIMES_S if text == str(seconds)), DEFAULT_TTL_S)


def _variant(text: str) -> Variant | None:
    return next((wanted.choice for wanted in WantedVariant if text == wanted.value), None)


def _encryption(text: str) -> Encryption | None:
    return next((wanted for wanted in Encryption if text == wanted.value), None)
