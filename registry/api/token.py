"""The token endpoint and the public signing keys (docs/tokens.md)."""

import hashlib
import json
from base64 import b64decode
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import hdrs, web

from auth.errors import Cause, RefusedError
from auth.realm import ExchangeRequest, Realm, SessionGrant
from auth.secret import Secret
from auth.signing_keys import LocalVerificationKeys
from registry.api.http.bodies import read_form
from registry.api.http.edge import require_text
from registry.api.http.peers import peer_of
from registry.api.http.problems import errors_as, oci_response

JWKS_MAX_AGE_S: Final = 300
_OF_GRANT = {hdrs.CONTENT_TYPE: "application/json; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}


class TokenApi:
    """Handlers of `/token` and `/.well-known/jwks.json`."""

    def __init__(self, realm: Realm, keys: LocalVerificationKeys) -> None:
        self._realm = realm
        self._keys = keys

    def app(self) -> web.Application:
        """Return the application to mount at `/token`."""
        challenge = errors_as(oci_response, challenge=lambda *_: 'Basic realm="crisper"')
        app = web.Application(middlewares=[challenge])
        app.add_routes([web.get("", self.by_get, allow_head=False), web.post("", self.by_post)])
        return app

    async def by_get(self, request: web.Request) -> web.Response:
        """Exchange with HTTP Basic (distribution's token scheme)."""
        username, password = _basic(request.headers.get(hdrs.AUTHORIZATION))
        query = request.query
        return await self._exchange(
            request, username, password, query.get("service"), tuple(query.getall("scope", ()))
        )

    async def by_post(self, request: web.Request) -> web.Response:
        """Exchange with a form (distribution's OAuth 2 scheme); containerd falls back to GET on a 400."""
        form = await read_form(request)
        if form.get("grant_type") != "password":
            raise web.HTTPBadRequest(text="The only supported grant_type is password.")
        username, password = form.get("username", ""), Secret(form.get("password", ""))
        scopes = tuple(form.getall("scope", ()))
        return await self._exchange(request, username, password, form.get("service", ""), scopes)

    async def jwks(self, request: web.Request) -> web.Response:
        """Return the public keys (RFC 7517, section 5), cacheable until they change."""
        body = json.dumps(self._keys.jwks(), separators=(",", ":"), sort_keys=True).encode()
        etag = hashlib.sha256(body).hexdigest()[:32]
        headers = {hdrs.CACHE_CONTROL: f"public, max-age={JWKS_MAX_AGE_S}", hdrs.ETAG: f'"{etag}"'}
        if any(known.value in {etag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=body, headers=headers, content_type="application/jwk-set+json")

    async def _exchange(
        self,
        request: web.Request,
        username: str,
        password: Secret,
        service: str | None,
        scopes: tuple[str, ...],
    ) -> web.Response:
        peer = peer_of(request)
        asked = ExchangeRequest(username, password, service, scopes, peer.source, peer.certificate)
        return _granted(await self._realm.exchange(asked))


def _granted(grant: SessionGrant) -> web.Response:
    # Docker reads `token`, containerd `access_token`. No `issued_at`: clients have clocks of their own.
    body = {
        "token": grant.token.reveal(),
        "access_token": grant.token.reveal(),
        "expires_in": grant.expires_in_s,
        "token_type": "Bearer",
    }
    return web.Response(body=orjson.dumps(body), headers=_OF_GRANT)


def _basic(header: str | None) -> tuple[str, Secret]:
    """Parse HTTP Basic (RFC 7617).

    Raises:
        RefusedError: It is missing or malformed.
        InvalidInputError: It contains control characters, which RFC 7617, section 2, forbids.
    """
    scheme, _, encoded = (header or "").partition(" ")
    try:
        if scheme.lower() != "basic":
            raise RefusedError(Cause.MALFORMED)
        username, separator, password = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII or not UTF-8
        raise RefusedError(Cause.MALFORMED) from None
    if not separator:
        raise RefusedError(Cause.MALFORMED)
    require_text(f"{username}{password}", "Authorization header")
    return username, Secret(password)
