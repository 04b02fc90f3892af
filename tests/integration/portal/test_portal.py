"""The portal of a real server, over HTTP."""

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.portal.conftest import FAILED, READY, Stage
from tests.support import images
from tests.support.http import Response, basic, request
from tests.support.portal import PortalVisitor, cookies_of, plain
from tests.support.upstream import PASSWORD

PAGES = ("/", "/groups/new", "/audit")
OPERATOR_PAGES = ("/system", "/organizations", "/nodes")


def policy_of(answer: Response) -> dict[str, str]:
    directives = answer.headers["Content-Security-Policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@pytest.mark.parametrize("path", [*PAGES, *OPERATOR_PAGES])
def test_a_stranger_is_sent_to_sign_in_and_then_to_where_they_wanted(stage: Stage, path: str) -> None:
    stranger = PortalVisitor(stage.server.url)
    sent = stranger.get(path).expect(303)
    form = stranger.get(sent.headers["Location"]).expect(200).body.decode()
    following = re.findall(r'name="next" value="([^"]*)"', form)
    done = stranger.send("/sign-in", {"key": stage.server.operator_key, "next": following[0]})
    assert done.expect(303).headers["Location"] == path


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "audit"])
def test_signing_in_never_leads_elsewhere(stage: Stage, elsewhere: str) -> None:
    stranger = PortalVisitor(stage.server.url)
    done = stranger.send("/sign-in", {"key": stage.organization.api_key, "next": elsewhere})
    assert done.expect(303).headers["Location"] == "/"


def test_the_session_cookie_is_out_of_reach_of_script_and_of_other_sites(stage: Stage) -> None:
    stranger = PortalVisitor(stage.server.url)
    done = stranger.send("/sign-in", {"key": stage.organization.api_key}).expect(303)
    session = cookies_of(done)["crisper-session"]
    assert session["httponly"]
    assert session["samesite"] == "Strict"
    assert session["path"] == "/"
    assert len(session.value) >= 43
    assert stage.organization.api_key not in done.body.decode() + str(done.headers)


def test_over_plain_http_the_cookie_is_one_that_browsers_keep(
    stage: Stage,
) -> None:
    stranger = PortalVisitor(stage.server.url)
    fields = {"form_token": stranger.form_token("/sign-in"), "key": stage.organization.api_key}
    done = stranger.post("/sign-in", fields, X_Forwarded_Proto="https", Forwarded="proto=https").expect(303)
    session = cookies_of(done)["crisper-session"]
    assert not session["secure"], "browsers drop secure cookies that come in the clear"
    assert not any(name.startswith("__Host-") for name in stranger.cookies)
    assert stranger.get("/").status == 200


def test_a_wrong_key_is_a_401_that_says_so_and_opens_nothing(stage: Stage) -> None:
    stranger = PortalVisitor(stage.server.url)
    refused = stranger.send("/sign-in", {"key": "crisper_key_of_nobody"}).expect(401)
    assert "No organization has this key" in plain(refused)
    assert "crisper_key_of_nobody" not in refused.body.decode()
    assert stranger.get("/").status == 303


def test_signing_out_ends_the_session_and_not_only_the_cookie(stage: Stage) -> None:
    visitor = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    kept = dict(visitor.cookies)
    visitor.send("/sign-out", {}, page="/").expect(303)
    visitor.cookies = kept
    assert visitor.get("/").status == 303
    assert "You are signed out" in plain(visitor.post("/groups/new", {"name": "x"}).expect(401))


@pytest.mark.parametrize(
    "path",
    ["/sign-out", "/groups/new", "{ready}/delete", "{ready}/mint", "/sign-in"],
    ids=lambda path: path[-8:],
)
def test_no_form_is_taken_without_the_token_of_its_own_page(stage: Stage, path: str) -> None:
    visitor, path = stage.operator, path.format(ready=stage.path(READY))
    foreign = stage.visitor(stage.other).form_token("/")
    for token in ({}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": foreign}):
        fields = {"name": "forged", "node": stage.node.node_id, "key": stage.server.operator_key, **token}
        visitor.post(path, fields).expect(403)
    own = {"form_token": visitor.form_token("/")}
    visitor.post(path, own, Sec_Fetch_Site="cross-site").expect(403)
    assert stage.customer.status(READY) == "stopped"
    assert visitor.get("/").status == 200


def test_pages_allow_no_inline_script_nothing_foreign_and_no_frame(stage: Stage) -> None:
    visitor = stage.operator
    paths = [*PAGES, *OPERATOR_PAGES, stage.path(READY), stage.path(READY, "/mint"), "/nothing"]
    for answer in [visitor.get(path) for path in paths] + [PortalVisitor(stage.server.url).get("/sign-in")]:
        policy = policy_of(answer)
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = answer.body.decode()
        assert not re.search(r"<style|<script(?! src=\"/static/)|\son[a-z]+=|\sstyle=|javascript:", text)
        assert not re.search(r'(?:src|href|action|hx-get)="(?!/|#|\?)', text)


def test_assets_named_by_content_are_cached_forever(stage: Stage) -> None:
    page = PortalVisitor(stage.server.url).get("/sign-in").body.decode()
    for address in re.findall(r'"(/static/portal/[^"]+)"', page):
        answer = request("GET", f"{stage.server.url}{address}").expect(200)
        assert "immutable" in answer.headers["Cache-Control"]
        squeezed = request("GET", f"{stage.server.url}{address}", headers={"Accept-Encoding": "gzip"})
        assert squeezed.headers["Content-Encoding"] == "gzip"
    request("GET", f"{stage.server.url}/static/portal/../app.py").expect(404)
    request("GET", f"{stage.server.url}/static/portal/none.js").expect(404)


def test_another_organizations_group_looks_like_one_that_is_not_there(stage: Stage) -> None:
    other = stage.visitor(stage.other)
    absent = f"/groups/{stage.organization.name}/default/absent"
    for path in (stage.path(READY), stage.path(READY, "/delete"), absent, absent + "/delete"):
        assert plain(other.get(path).expect(404)).count("There is no such page") == 1
    other.send(stage.path(READY, "/delete"), {}, page="/").expect(404)
    assert stage.customer.status(READY) == "stopped"
    assert READY not in plain(other.get("/"))
    assert stage.organization.name not in other.text("/audit")
    narrowed = other.text(f"/audit?organization={stage.organization.name}").partition("<ol")[2]
    assert "The organization was created" in narrowed
    assert READY not in narrowed
    assert stage.organization.name not in narrowed


def test_operators_pages_are_not_there_for_customers(stage: Stage) -> None:
    customer = stage.visitor(stage.organization)
    for path in (*OPERATOR_PAGES, stage.path(READY, "/mint"), stage.path(READY, "/tokens/x")):
        customer.get(path).expect(404)
    customer.send(stage.path(READY, "/mint"), {"node": stage.node.node_id}, page="/").expect(404)
    page = customer.text(stage.path(READY))
    assert "Mint" not in page
    assert "/system" not in page


def test_a_customer_creates_groups_only_in_their_own_organization(stage: Stage) -> None:
    other = stage.visitor(stage.other)
    fields = {
        "image": stage.upstream.reference(images.runnable()),
        "private": "yes",
        "basic.username": stage.upstream.username or "",
        "basic.password": PASSWORD,
        "project": "default",
        "name": "mine",
        "organization": stage.organization.name,
    }
    done = other.send("/groups/new", fields).expect(303)
    assert done.headers["Location"] == f"/groups/{stage.other.name}/default/mine"
    settled = stage.server.customer(stage.other).wait_settled("mine")
    assert settled["current_state"]["status"] == "stopped"
    page = other.text(done.headers["Location"])
    assert images.runnable().digest in page
    assert PASSWORD not in page + other.text("/audit") + other.text("/")
    other.send(done.headers["Location"] + "/delete", {}).expect(303)
    other.get(done.headers["Location"]).expect(404)


def test_a_form_that_is_refused_keeps_what_was_typed_but_for_secrets(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    fields = {
        "image": "https://ghcr.io/acme/app",
        "private": "yes",
        "basic.username": "robot",
        "basic.password": "typed-once",
        "project": "default",
        "name": "No Capitals",
        "cpu": "many",
    }
    refused = visitor.send("/groups/new", fields).expect(400)
    text = refused.body.decode()
    assert "remove https:// from the reference" in text
    assert "lower-case letters" in text
    assert 'value="No Capitals"' in text
    assert "typed-once" not in text
    taken = {**fields, "image": "ghcr.io/acme/app", "name": READY}
    refused = visitor.send("/groups/new", {**taken, "replicas": "501"}).expect(400)
    assert "a valid integer" in plain(refused)
    assert "less than or equal to 500" in plain(refused)
    refused = visitor.send("/groups/new", {**taken, "cpu": "1"}).expect(400)
    assert READY in plain(refused)
    assert "typed-once" not in refused.body.decode()


def test_a_typed_reference_selects_the_credentials_to_enter(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    hub = visitor.get("/groups/new/reading?image=alpine&kind=basic+x", HX_Request="true").expect(200)
    assert "library/alpine" in plain(hub)
    assert 'name="docker_hub.personal_access_token"' in hub.body.decode()
    again = visitor.get("/groups/new/reading?image=alpine:3&kind=docker_hub+Docker+Hub", HX_Request="true")
    assert "hx-swap-oob" not in again.body.decode()
    wrong = visitor.get("/groups/new/reading?image=ALPINE", HX_Request="true")
    assert "A repository has lower-case letters" in plain(wrong)


HOSTILE = "<img src=x onerror=alert(1)>\"'</dd><script>"


def test_whatever_strangers_write_is_text(stage: Stage) -> None:
    url = f"{stage.server.url}/api/public/organizations/{stage.other.name}/projects/default/containers"
    body = {
        "name": "hostile",
        "container": {"image": "x", "resources": {"cpu": 1, "memory": 1024}},
        "autostart_policy": False,
        "replicas": 1,
        "restart_policy": "never",
    }
    body["container"] = {**body["container"], "image": f"{stage.upstream.host}/a/b:1"}  # type: ignore[dict-item]
    headers = {"Salad-Api-Key": stage.other.api_key}
    request("POST", url, headers=headers, body=body).expect(201)
    realm = f"{stage.server.url}/token?service=crisper&account={HOSTILE}".replace(" ", "%20")
    request("GET", realm, headers={"Authorization": "Basic PGltZz46eA=="}).expect(401)
    operator = stage.operator
    encoded = "".join(f"%{byte:02x}" for byte in HOSTILE.encode())
    pages = [
        operator.text("/audit"),
        operator.text(f"/audit?node={encoded}&token={encoded}&type={encoded}&organization={encoded}"),
        operator.text(f"/?q={encoded}&status={encoded}"),
        operator.text(f"/groups/new?image={encoded}"),
        operator.get(f"/groups/new/reading?image={encoded}", HX_Request="true").body.decode(),
        operator.get(f"/{encoded}").expect(404).body.decode(),
        operator.get(f"/groups/{encoded}/x/y").expect(404).body.decode(),
        PortalVisitor(stage.server.url).get(f"/sign-in?next=/{encoded}").expect(200).body.decode(),
        operator.send("/groups/new", {"image": HOSTILE, "name": HOSTILE, "project": HOSTILE}).body.decode(),
    ]
    for page in pages:
        assert "<img" not in page
        assert "<script>" not in page


def test_a_minted_token_is_shown_once_and_its_progress_from_then_on(stage: Stage) -> None:
    operator = stage.operator
    made = operator.send(stage.path(READY, "/mint"), {"node": stage.node.node_id, "ttl": "300"}).expect(303)
    follow = made.headers["Location"]
    assert "eyJ" not in operator.get(follow, HX_Request="true").expect(200).body.decode()
    assert "docker pull" not in PortalVisitor.signed_in(stage.server.url, stage.server.operator_key).text(
        follow
    )
    first = operator.text(follow)
    token = re.findall(r"eyJ[\w.-]+", first)[0]
    assert "docker pull" in first
    assert "Layer 1" in first
    page = operator.text(follow)
    assert "waiting" in page
    assert "shown once" in page
    assert token not in page
    assert token not in operator.text("/audit") + operator.text(stage.path(READY))
    operator.send(follow + "/revoke", {}, page=follow).expect(303)
    assert "revoked" in operator.text(follow)
    stage.server.operator.call("GET", f"/pull-tokens/{follow.rpartition('/')[2]}").expect(200)
    operator.get(stage.path(FAILED, f"/tokens/{follow.rpartition('/')[2]}")).expect(404)


def test_the_trail_is_downloaded_by_those_who_may_see_it(stage: Stage) -> None:
    operator, customer = stage.operator, stage.visitor(stage.organization)
    answer = operator.get("/audit/events.csv?type=organization.created").expect(200)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="events.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert {row["organization"] for row in rows} >= {stage.organization.name, stage.other.name}
    assert {row["type"] for row in rows} == {"organization.created"}
    own = [json.loads(line) for line in customer.text("/audit/events.jsonl").splitlines()]
    assert {event["organization"] for event in own} == {stage.organization.name}
    assert all("source" not in event for event in own)
    operator.get("/audit/events.xml").expect(404)


def test_a_form_that_is_submitted_again_mints_no_second_token(stage: Stage) -> None:
    operator, path = stage.operator, stage.path(READY, "/mint")
    (form_id,) = re.findall(r'name="form_id" value="([^"]+)"', operator.text(path))
    fields = {"node": stage.node.node_id, "form_id": form_id}
    events = len(stage.server.operator.events(type="token.minted"))
    follow = operator.send(path, fields).expect(303).headers["Location"]
    assert operator.send(path, fields).expect(303).headers["Location"] == follow
    with ThreadPoolExecutor(4) as threads:
        at_once = [
            threads.submit(operator.copy().send, path, {**fields, "form_id": "another"}) for _ in range(4)
        ]
    assert [each.result().status for each in at_once] == [303] * 4
    assert len(stage.server.operator.events(type="token.minted")) == events + 2
    tokens = (
        stage.server.operator.call("GET", f"/pull-tokens?node_id={stage.node.node_id}").expect(200).json()
    )
    for token in tokens["items"]:  # other tests need a group without instances
        stage.server.operator.call("DELETE", f"/pull-tokens/{token['token_id']}").expect(204)


def test_a_failed_group_says_why_and_what_to_do_and_cannot_be_minted_for(stage: Stage) -> None:
    operator = stage.operator
    said = plain(operator.get(stage.path(FAILED)))
    assert "Failed to pull" in said
    assert "check its spelling" in said
    assert "What to do" in said
    refused = operator.send(stage.path(FAILED, "/mint"), {"node": stage.node.node_id}).expect(400)
    assert "its import failed" in plain(refused)


def test_a_failed_group_is_tried_again_with_another_image(stage: Stage) -> None:
    name = stage.customer.create_group(f"{stage.upstream.host}/acme/none:1")
    stage.customer.wait_settled(name)
    visitor, path = stage.visitor(stage.organization), stage.path(name, "/image")
    fields = {
        "image": stage.upstream.reference(images.runnable()),
        "private": "yes",
        "basic.username": stage.upstream.username or "",
        "basic.password": "",
    }
    refused = visitor.send(path, {**fields, "basic.username": ""}).expect(400)
    assert "Enter the credentials" in plain(refused)
    visitor.send(path, {**fields, "basic.password": PASSWORD}).expect(303)
    stage.customer.wait_settled(name)
    page = visitor.text(stage.path(name))
    assert f"{name}:v2" in page
    assert PASSWORD not in page
    stage.visitor(stage.other).send(path, fields, page="/").expect(404)


def test_a_failed_version_is_told_and_the_one_before_is_returned_to(stage: Stage) -> None:
    name = stage.customer.create_group(
        stage.upstream.reference(images.runnable()),
        username=stage.upstream.username,
        password=stage.upstream.password,
    )
    stage.customer.wait_settled(name)
    container = {"image": stage.upstream.reference(images.runnable()), "command": ["serve"]}
    wrong = {"basic": {"username": stage.upstream.username, "password": "wrong"}}
    stage.customer.patch(name, {"container": {**container, "registry_authentication": wrong}})
    stage.customer.wait_settled(name)
    visitor, path = stage.visitor(stage.organization), stage.path(name)
    said = plain(visitor.get(path))
    assert "Version 2: failed to authenticate" in said
    assert "Nodes get version 1, as before." in said
    assert "v2 failed" in said
    assert "v1 served" in said
    stage.visitor(stage.other).send(f"{path}/rollback", {"version": "1"}, page="/").expect(404)
    for version in ("", "x", "9" * 11, "7"):
        visitor.send(f"{path}/rollback", {"version": version}, page="/").expect(400)
    assert f'action="{path}/rollback"' in visitor.text(path)
    visitor.send(f"{path}/rollback", {"version": "1"}, page="/").expect(303)
    group = stage.customer.group(name)
    assert (group["version"], group["container"]["command"], group["pending_change"]) == (3, None, False)
    said = plain(visitor.get(path))
    assert "Version 2: failed" not in said
    assert "The group was returned to an earlier version" in said
    assert re.search(r"took [\d.]+ (m?s)", said)


def test_a_group_is_started_and_stopped_and_its_instances_are_shown(stage: Stage) -> None:
    node = stage.server.operator.create_node()
    visitor = stage.visitor(stage.organization)
    visitor.send(stage.path(READY, "/start"), {}, page="/").expect(303)
    assert stage.customer.status(READY) == "deploying"
    stage.server.operator.mint(stage.organization, READY, node)
    page = visitor.text(stage.path(READY))
    assert node.node_id in page
    assert "allocating" in page
    for action, said in (
        ("restart", "container is to be restarted"),
        ("recreate", "created again"),
        ("reallocate", "node was released"),
    ):
        (free,) = re.findall(rf'href="([^"]+/{action})"', page)
        stage.visitor(stage.other).get(free).expect(404)
        stage.visitor(stage.other).send(free, {}, page="/").expect(404)
        assert f"{action.capitalize()}" in plain(visitor.get(free).expect(200))
        visitor.send(free, {}).expect(303)
        assert said in plain(visitor.get(stage.path(READY)))
    assert f"{node.node_id}</td>" not in visitor.text(stage.path(READY))
    assert "Its image stays stored" in plain(visitor.get(stage.path(READY, "/stop")))
    visitor.send(stage.path(READY, "/stop"), {}).expect(303)
    assert stage.customer.status(READY) == "stopped"


def test_an_operator_marks_a_pull_complete(stage: Stage) -> None:
    operator, api = stage.operator, stage.server.operator
    operator.send(stage.path(READY, "/start"), {}, page="/").expect(303)
    for of_token in (True, False):
        node = api.create_node()
        token = api.mint(stage.organization, READY, node)
        follow = stage.path(READY, f"/tokens/{token.token_id}")
        assert "Mark complete" not in operator.text(follow)
        scope = f"scope=repository:{stage.organization.name}/default/{READY}:pull"
        proof = {"Authorization": basic(node.node_id, token.password(node))}
        request("GET", f"{stage.server.url}/token?{scope}", headers=proof).expect(200)
        found = api.instances(stage.organization, READY)[node.node_id]
        assert (found["state"], found["known_by"]) == ("downloading", None)
        mark = (
            follow + "/complete"
            if of_token
            else stage.path(READY, f"/instances/{found['instance_id']}/complete")
        )
        page = follow if of_token else stage.path(READY)
        assert f'action="{mark}"' in operator.text(page)
        stage.visitor(stage.organization).send(mark, {}, page="/").expect(404)
        operator.send(mark, {}, page=page).expect(303)
        assert api.token_state(token) == "done"
        found = api.instances(stage.organization, READY)[node.node_id]
        assert (found["state"], found["known_by"]) == ("creating", "reported")
        assert "reported" in operator.text(stage.path(READY))
    operator.send(stage.path(READY, "/stop"), {}, page="/").expect(303)


def test_a_part_that_has_not_changed_is_not_sent_again(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    page = visitor.text(stage.path(READY))
    (seen,) = re.findall(r"hx-vals='(\{[^']+\})'", page)
    name = json.loads(seen)["seen"]
    visitor.get(f"{stage.path(READY)}?seen={name}", HX_Request="true").expect(204)
    part = visitor.get(f"{stage.path(READY)}?seen=other", HX_Request="true").expect(200).body.decode()
    assert part.startswith('<div id="live"')
    assert f'"{name}"' in part


def test_a_fragment_without_a_session_sends_the_page_to_sign_in(stage: Stage) -> None:
    answer = PortalVisitor(stage.server.url).get("/", HX_Request="true").expect(401)
    assert answer.headers["HX-Redirect"] == "/sign-in"


def test_the_audit_trail_goes_back_page_by_page_and_by_filter(stage: Stage) -> None:
    node = stage.server.operator.create_node()
    for _ in range(26):
        stage.server.operator.revoke(stage.server.operator.mint(stage.organization, READY, node))
    operator = stage.operator
    first = operator.text(f"/audit?node={node.node_id}")
    assert first.count("<li>") == 50
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = operator.text(older.replace("&amp;", "&"))
    assert second.count("<li>") >= 3
    assert "The node was created" in second
    assert "data-poll" not in second
    assert "token.revoked" not in operator.text("/audit?type=organization.created").partition("<ol")[2]
    own = stage.visitor(stage.organization).text("/audit?type=token.minted")
    assert node.node_id in own
    assert "127.0.0.1" not in own


def test_an_unknown_address_is_a_page_for_people_a_problem_for_clients(stage: Stage) -> None:
    assert "text/html" in PortalVisitor(stage.server.url).get("/nothing").expect(404).headers["Content-Type"]
    for path in ("/nothing", "/v2/nothing", "/api/v1x", "/token/x"):
        answer = request("GET", f"{stage.server.url}{path}", headers={"Accept": "*/*"})
        assert "text/html" not in answer.headers["Content-Type"]
    machine = PortalVisitor(stage.server.url).get("/api/v1/nothing")
    assert "json" in machine.headers["Content-Type"]


def test_keys_that_are_guessed_are_soon_told_to_wait(stage: Stage) -> None:
    stranger = PortalVisitor(stage.server.url)
    token = stranger.form_token("/sign-in")
    for _ in range(60):
        answer = stranger.post("/sign-in", {"form_token": token, "key": "guess"})
        if answer.status == 429:
            break
        answer.expect(401)
    assert int(answer.expect(429).headers["Retry-After"]) >= 1
    assert "Too many attempts" in plain(answer)
    # A valid key is not locked out, and another sign-in ends the browser's session.
    earlier = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    later = earlier.copy()
    later.cookies |= stranger.cookies
    later.post("/sign-in", {"form_token": token, "key": stage.server.operator_key}).expect(303)
    earlier.get("/").expect(303)
    later.get("/").expect(200)
