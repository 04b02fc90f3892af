"""Operators change quotas in the portal."""

from typing import Any

import pytest

from tests.integration.portal.conftest import Stage
from tests.support.portal import plain


def quotas(stage: Stage) -> dict[str, Any]:
    path = f"/organizations/{stage.other.name}/quotas"
    return dict(stage.server.operator.call("GET", path).expect(200).json()["quotas"])


def test_quotas_are_changed_and_returned_to_the_default(stage: Stage) -> None:
    page, before = f"/organizations/{stage.other.name}/quotas", quotas(stage)
    operator = stage.operator
    assert "Container groups" in plain(operator.get(page).expect(200))
    operator.send(page, {"groups": "7", "stored_bytes": "2TB", "streams": "none"}).expect(303)
    after = quotas(stage)
    assert (after["groups"]["limit"], after["groups"]["is_default"]) == (7, False)
    assert after["stored_bytes"]["limit"] == 2 * 10**12
    assert after["streams"]["limit"] == 0
    assert after["webhooks"] == before["webhooks"]
    shown = operator.text(page)
    assert 'value="7"' in shown
    assert 'value="none"' in shown
    operator.send(page, {}).expect(303)
    assert {name: each["limit"] for name, each in quotas(stage).items()} == {
        name: each["limit"] for name, each in before.items()
    }
    changes = [each["detail"] for each in stage.server.operator.events(type="organization.quotas_changed")]
    assert {"quotas": {"groups": 7, "stored_bytes": 2 * 10**12, "streams": 0}} in changes


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5.2", str(1 << 53), "9" * 32, "<b>"])
def test_a_limit_that_is_none_changes_nothing(stage: Stage, wrong: str) -> None:
    page, before = f"/organizations/{stage.other.name}/quotas", quotas(stage)
    refused = stage.operator.send(page, {"groups": wrong, "webhooks": "3"}).expect(400)
    assert "Write a number" in plain(refused)
    assert "<b>" not in refused.body.decode().partition("<main")[2].replace("</b>", "")
    assert 'value="3"' in refused.body.decode(), "what was entered stays"
    assert quotas(stage) == before


def test_customers_do_not_change_quotas(stage: Stage) -> None:
    page = f"/organizations/{stage.other.name}/quotas"
    visitor = stage.visitor(stage.other)
    visitor.get(page).expect(404)
    visitor.send(page, {"groups": "7"}, page="/").expect(404)
    assert "Change quotas" not in visitor.text(f"/organizations/{stage.other.name}")
