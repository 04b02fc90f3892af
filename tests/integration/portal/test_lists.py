"""The lists of groups and events of a real server: filters, order, and deletion of several groups."""

import re
from datetime import UTC, datetime, timedelta

from tests.integration.portal.conftest import FAILED, READY, Stage
from tests.support.portal import PortalVisitor, plain

OWN = {"Sec_Fetch_Site": "same-origin"}


def listed(visitor: PortalVisitor, query: str = "") -> list[str]:
    return re.findall(r'name="group:[^"]*/([\w-]+)"', visitor.text(f"/{query}"))


def waiting(stage: Stage, *names: str) -> None:
    """Create groups whose import never ends."""
    for name in names:
        stage.customer.create_group(f"{stage.silent_host}/acme/app:1", name=name)


def test_groups_are_filtered_and_ordered(stage: Stage) -> None:
    visitor, operator = stage.visitor(stage.organization), stage.operator
    name = stage.organization.name
    assert {READY, FAILED} <= set(listed(visitor))
    assert listed(visitor, f"?status=failed&sort=name&q={FAILED}") == [FAILED]
    assert listed(visitor, f"?q={READY}&created=1d&project=default") == [READY]
    assert listed(visitor, "?project=none") == []
    assert "No groups match this filter" in visitor.text("/?project=none")
    assert listed(operator, f"?organization={name}&q={READY}&sort=largest") == [READY]
    assert READY not in listed(operator, f"?organization={stage.other.name}")
    assert READY not in listed(stage.visitor(stage.other), f"?organization={name}")
    by_name = listed(visitor, "?sort=name")
    assert by_name == sorted(by_name)
    assert "All groups" not in visitor.text("/?sort=oldest")


def test_several_groups_are_deleted_after_a_confirmation(stage: Stage) -> None:
    waiting(stage, "first", "second", "third")
    visitor, other = stage.visitor(stage.organization), stage.visitor(stage.other)
    place = f"group:{stage.organization.name}/default"
    chosen = {f"{place}/first": "yes", f"{place}/second": "yes", "group:../../x": "yes", "group:": "yes"}
    asked = visitor.post("/groups/delete/confirm", chosen, **OWN).expect(200)
    assert "Delete 2 groups?" in plain(asked)
    assert {"first", "second", "third"} <= set(listed(visitor))
    other.post("/groups/delete/confirm", chosen, **OWN).expect(404)
    other.send("/groups/delete", chosen, page="/").expect(404)
    visitor.post("/groups/delete", chosen).expect(403)
    assert {"first", "second", "third"} <= set(listed(visitor))
    for _ in range(2):  # those that are gone are skipped
        visitor.send("/groups/delete", chosen, page="/").expect(303)
    assert not {"first", "second"} & set(listed(visitor))
    assert "third" in listed(visitor)
    assert "No group is selected" in plain(visitor.post("/groups/delete/confirm", {}, **OWN).expect(200))
    visitor.send(stage.path("third", "/delete"), {}).expect(303)


def test_events_are_filtered_by_day_and_group_and_downloaded_so(stage: Stage) -> None:
    visitor = stage.visitor(stage.organization)
    today = datetime.now(UTC).date()
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    for span, found in (
        (f"from={yesterday}&to={tomorrow}", True),
        (f"to={yesterday}", False),
        (f"from={tomorrow}", False),
        ("from=nonsense&to=9999-12-31", True),
    ):
        page = visitor.text(f"/audit?{span}&type=group.created")
        assert ("its image will be imported</p>" in page) is found, span
        assert bool(visitor.text(f"/audit/events.jsonl?{span}&type=group.created")) is found
    page = visitor.text(stage.path(READY))
    group = re.findall(r'href="/audit\?group=([\w-]+)"', page) or [stage.customer.group(READY)["id"]]
    own = visitor.text(f"/audit?group={group[0]}")
    assert f"<dd>{READY}</dd>" in own
    assert f"<dd>{FAILED}</dd>" not in own
    assert f"<dd>{READY}</dd>" not in stage.visitor(stage.other).text(f"/audit?group={group[0]}")


def test_times_are_shown_in_utc_with_their_title(stage: Stage) -> None:
    page = stage.visitor(stage.organization).text("/")
    assert re.search(r'<time datetime="([^"]+)\+00:00" title="([^"]+ UTC)">\2</time>', page)
