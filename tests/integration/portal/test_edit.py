"""The form that edits a group, on a real server."""

import json
import re
from html import unescape

import pytest

from tests.integration.portal.conftest import Stage
from tests.support import images
from tests.support.portal import PortalVisitor, plain

NAME = "edited"
SECRET = 'two\nlines and "quotes"'


@pytest.fixture(scope="module", autouse=True)
def group(stage: Stage) -> None:
    stage.customer.create_group(
        stage.upstream.reference(images.runnable()), name=NAME, **stage.upstream.login
    )
    change = {"container": {"command": ["sh", "-c", "a\nb"], "environment_variables": {"TOKEN": SECRET}}}
    stage.customer.wait_settled(NAME)
    stage.customer.patch(NAME, change)


def form_of(visitor: PortalVisitor, path: str) -> dict[str, str]:
    """Return the fields of a page's form as a browser sends them."""
    page = visitor.text(path)
    fields = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', page))
    fields |= dict(re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL))
    fields["restart"] = re.findall(r'<option value="(\w+)" selected', page)[-1]
    return {name: unescape(text).replace("\n", "\r\n") for name, text in fields.items()}


def test_a_form_saved_as_it_was_changes_nothing(stage: Stage) -> None:
    visitor, path = stage.visitor(stage.organization), stage.path(NAME, "/edit")
    before = stage.customer.group(NAME)
    for query in ("", "?values=shown"):
        visitor.post(path, form_of(visitor, path + query)).expect(303)
    assert stage.customer.group(NAME) == before


def test_what_is_changed_is_saved_and_the_rest_stays(stage: Stage) -> None:
    visitor, path = stage.visitor(stage.organization), stage.path(NAME, "/edit")
    assert SECRET.partition("\n")[0] not in visitor.text(path)
    fields = form_of(visitor, path + "?values=shown")
    assert json.dumps(SECRET) in fields["environment"]
    fields |= {
        "replicas": "9",
        "memory": "4096",
        "restart": "never",
        "display_name": "Edited <b>",
        "command": 'serve\r\n"x\\ny"',
        "environment": fields["environment"] + "\r\nMODE=fast",
    }
    before = stage.customer.group(NAME)
    visitor.post(path, fields).expect(303)
    after = stage.customer.group(NAME)
    assert (after["replicas"], after["restart_policy"], after["display_name"]) == (9, "never", "Edited <b>")
    assert after["container"]["command"] == ["serve", "x\ny"]
    assert after["container"]["environment_variables"] == {"TOKEN": SECRET, "MODE": "fast"}
    assert after["container"]["resources"] == {**before["container"]["resources"], "memory": 4096}
    assert after["version"] == before["version"] + 1
    removed = form_of(visitor, path + "?values=shown") | {"environment": "MODE=slow", "command": ""}
    visitor.post(path, removed).expect(303)
    container = stage.customer.group(NAME)["container"]
    assert (container["command"], container["environment_variables"]) == (None, {"MODE": "slow"})


def test_a_wrong_value_is_named_and_the_form_keeps_what_was_entered(stage: Stage) -> None:
    visitor, path = stage.visitor(stage.organization), stage.path(NAME, "/edit")
    fields = form_of(visitor, path + "?values=shown")
    wrong = {"replicas": "501", "memory": "much", "environment": "A=1\r\nB", "display_name": "Kept"}
    for name, said in (("replicas", "500"), ("memory", "valid integer"), ("environment", "Line 2 is not")):
        refused = visitor.post(path, {**fields, name: wrong[name], "display_name": "Kept"}).expect(400)
        assert said in plain(refused)
        assert 'value="Kept"' in refused.body.decode()
    stage.visitor(stage.other).post(path, fields).expect(403)
    stage.visitor(stage.other).get(path).expect(404)


def test_a_change_in_between_is_not_overwritten(stage: Stage) -> None:
    visitor, path = stage.visitor(stage.organization), stage.path(NAME, "/edit")
    fields = form_of(visitor, path) | {"replicas": "3"}
    stage.customer.patch(NAME, {"replicas": 4})
    refused = visitor.post(path, fields).expect(400)
    assert "has changed since this form was opened" in plain(refused)
    assert stage.customer.group(NAME)["replicas"] == 4
    again = {**fields, **dict(re.findall(r'name="(etag)" value="([^"]*)"', refused.body.decode()))}
    visitor.post(path, {name: unescape(text) for name, text in again.items()}).expect(303)
    assert stage.customer.group(NAME)["replicas"] == 3


OWN = {"Sec_Fetch_Site": "same-origin"}


def test_a_form_is_kept_over_an_expired_session_without_its_credentials(stage: Stage) -> None:
    visitor = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    path = stage.path(NAME, "/edit")
    fields = form_of(visitor, path) | {"display_name": '<Typed "before">', "basic.password": "typed-once"}
    expired = visitor.copy()
    visitor.send("/sign-out", {}, page="/").expect(303)
    answer = expired.post(path, fields, **OWN, Referer=stage.server.url + path).expect(401)
    page = answer.body.decode()
    assert "typed-once" not in page
    assert f"/sign-in?next={path}" in page
    kept = dict(re.findall(r'<textarea name="(\w+)" hidden>\n(.*?)</textarea>', page, re.DOTALL))
    kept = {name: unescape(text) for name, text in kept.items()} | {"return": "yes"}
    assert expired.post(path, kept, **OWN).expect(401)  # still signed out: it is kept again
    again = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    returned = again.post(path, kept, **OWN).expect(200).body.decode()
    assert 'value="&lt;Typed &#34;before&#34;&gt;"' in returned
    assert stage.customer.group(NAME)["display_name"] != '<Typed "before">'
    again.post(path, kept, Sec_Fetch_Site="cross-site").expect(403)


def test_a_form_of_an_earlier_session_is_kept_too_and_other_sites_fill_in_none(stage: Stage) -> None:
    path = stage.path(NAME, "/edit")
    earlier = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    fields = form_of(earlier, path) | {"display_name": "Earlier"}
    later = PortalVisitor.signed_in(stage.server.url, stage.organization.api_key)
    assert "signed in again since" in plain(later.post(path, fields, **OWN).expect(403))
    own_origin = {"Origin": stage.server.url}
    assert "signed in again since" in plain(later.post(path, fields, **own_origin).expect(403))
    for foreign in ({}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "same-site"}):
        stranger = PortalVisitor(stage.server.url)
        assert "Earlier" not in stranger.post(path, fields, **foreign).expect(401).body.decode()
        assert "Earlier" not in later.post(path, fields, **foreign).expect(403).body.decode()
    assert stage.customer.group(NAME)["display_name"] != "Earlier"
