"""Every route of the portal with every role, from the router: a new route is in the test by itself."""

import re
from typing import Any, cast

import pytest
from aiohttp import web

from registry.identity.provider import IdentityProvider, OidcClient
from registry.model.access import KeyScope, Role
from registry.portal import Portal
from registry.portal.guard import Guarded
from registry.portal.openid import OpenIdSignIn
from tests.integration.portal.conftest import Stage
from tests.support.portal import PortalVisitor, plain
from tests.support.proxies import SHIPPED

PUBLIC = {
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/sign-in/openid"),
    ("GET", "/sign-in/openid/callback"),
    ("GET", "/static/portal/{name}"),
}
FOR_ALL_SIGNED_IN = {("POST", "/sign-out"), ("POST", "/account")}
OPERATORS = (
    r"/organizations",
    r"/organizations/.*/quotas",
    r"/nodes(/.*)?",
    r"/system",
    r".*/mint",
    r".*/tokens/.*",
    r".*/instances/.*/complete",
)
OWN = {"Sec_Fetch_Site": "same-origin"}
HIDDEN = "There is no such page"


def portal_routes() -> dict[tuple[str, str], Role | None]:
    """Return the role that each route needs; None for public ones."""
    app = web.Application()
    nothing = cast(Any, None)
    client = OidcClient("https://id.example", "crisper", None, "openid")
    openid = OpenIdSignIn(IdentityProvider(client, nothing), nothing, nothing, None, nothing)
    Portal(nothing, nothing, openid).mount(app)
    found: dict[tuple[str, str], Role | None] = {}
    for route in app.router.routes():
        if route.method == "HEAD" or route.resource is None:
            continue
        owner = getattr(route.handler, "__self__", None)
        found[route.method, route.resource.canonical] = owner.needs if isinstance(owner, Guarded) else None
    return found


ROUTES = portal_routes()
GUARDED = {route: needs for route, needs in ROUTES.items() if needs is not None}


def visitor_with(stage: Stage, role: Role) -> PortalVisitor:
    if role is Role.OPERATOR:
        return stage.operator
    scope = next(each for each in KeyScope if each.role is role)
    if (role.label) not in stage.keys:
        path = f"/organizations/{stage.organization.name}/api-keys"
        made = stage.server.operator.call("POST", path, {"name": role.label, "scope": scope.value})
        stage.keys[role.label] = made.expect(201).json()["api_key"]
    return stage._visitor(stage.keys[role.label])


def concrete(stage: Stage, path: str) -> str:
    action = "restart" if "/instances/" in path else "start"
    names = {
        "organization": stage.organization.name,
        "project": "default",
        "format": "csv",
        "action": action,
    }
    return re.sub(r"\{(\w+)[^}]*\}", lambda each: names.get(each[1], "absent"), path)


def test_every_route_is_guarded_or_known_to_be_public() -> None:
    assert {route for route, needs in ROUTES.items() if needs is None} == PUBLIC
    assert len(GUARDED) > 30


@pytest.mark.parametrize(("route", "needs"), GUARDED.items(), ids=str)
def test_changes_need_a_member_and_keys_an_owner(route: tuple[str, str], needs: Role) -> None:
    method, path = route
    if route in FOR_ALL_SIGNED_IN:
        assert needs is Role.VIEWER
    elif any(re.fullmatch(pattern, path) for pattern in OPERATORS):
        assert needs is Role.OPERATOR
    elif "/keys" in path:
        assert needs is Role.OWNER
    elif method == "POST":
        assert needs is Role.MEMBER
    else:
        assert needs <= Role.MEMBER


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.label)
@pytest.mark.parametrize(("route", "needs"), GUARDED.items(), ids=str)
def test_a_route_admits_its_role_and_higher_ones(
    stage: Stage, route: tuple[str, str], needs: Role, role: Role
) -> None:
    (method, path), visitor = route, visitor_with(stage, role)
    if path == "/sign-out":
        stage.sessions.clear()  # the visit ends the session
    where = concrete(stage, path)
    token = visitor.form_token("/")
    answer = visitor.get(where) if method == "GET" else visitor.post(where, {"form_token": token}, **OWN)
    said = plain(answer)
    if path == "/account" and method == "POST":
        assert answer.status == 404  # holders of keys have no other organization
    elif role >= needs:
        assert answer.status not in {401, 403}, said
        assert HIDDEN not in said
        assert not answer.headers.get("Location", "").startswith("/sign-in?")
    elif needs is Role.OPERATOR:
        assert (answer.status, HIDDEN in said) == (404, True)
    else:
        assert answer.status == 403
        assert f"Your role is {role.label}, and this needs the role {needs.label}" in said


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_a_route_admits_no_stranger_and_no_other_organization(stage: Stage, route: tuple[str, str]) -> None:
    method, path = route
    where = concrete(stage, path)
    stranger = PortalVisitor(stage.server.url)
    if method == "GET":
        assert stranger.get(where).expect(303).headers["Location"].startswith("/sign-in")
    else:
        stranger.post(where, {"form_token": "0" * 64}, **OWN).expect(401)
    if "{organization}" not in path:
        return
    other = stage.visitor(stage.other)
    token = other.form_token("/")
    answer = other.get(where) if method == "GET" else other.post(where, {"form_token": token}, **OWN)
    assert (answer.status, HIDDEN in plain(answer)) == (404, True)


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-replicas.conf", "haproxy.cfg"])
def test_the_supplied_proxies_pass_on_every_page(name: str) -> None:
    shipped = (SHIPPED / name).read_text()
    (passed_on,) = re.findall(r"(\^/\(\|api/public\S*\$)", shipped)
    paths = {re.sub(r"\{[^}]*\}", "x", path) for _, path in ROUTES}
    assert [path for path in sorted(paths) if not re.search(passed_on, path)] == []
