"""The page of a group: its versions, timeline and configuration, from a real server."""

import re

from tests.integration.portal.conftest import Stage
from tests.support import images
from tests.support.portal import plain


def test_the_timeline_has_the_import_with_its_stages_and_sizes(stage: Stage) -> None:
    group = stage.customer.import_image(stage.upstream.reference(images.runnable()), **stage.upstream.login)
    said = plain(stage.visitor(stage.organization).get(stage.path(group)))
    assert "The group was created; its image will be imported" in said
    imported = re.search(r"The image is stored version 1; (.+?) The group was created", said)
    assert imported is not None
    assert re.search(r"\d+ layers?, [\d.]+ (k|M)B; took .+: pulling .+, storing", imported[1])


def test_the_import_of_a_further_version_is_no_outage(stage: Stage) -> None:
    visitor, group = stage.visitor(stage.organization), "further"
    login = stage.upstream.login
    stage.customer.create_group(stage.upstream.reference(images.runnable()), name=group, **login)
    stage.customer.wait_settled(group)
    visitor.send(stage.path(group, "/start"), {}).expect(303)
    stage.customer.patch(group, {"container": {"image": f"{stage.silent_host}/acme/app:2"}})
    page = plain(visitor.get(stage.path(group)))
    assert "deploying version 1, while version 2 is imported" in page
    assert "v2 importing" in page
    assert "v1 served" in page
    listed = plain(visitor.get(f"/?q={group}"))
    assert "deploying" in listed
    assert "importing version 2" in listed
    assert "The running import ends." in plain(visitor.get(stage.path(group, "/delete")))
    visitor.send(stage.path(group, "/delete"), {}).expect(303)


def test_everything_that_the_api_returns_of_a_group_is_shown_but_values_only_on_request(stage: Stage) -> None:
    name = "configured"
    body = {
        "name": name,
        "display_name": "Configured group",
        "container": {
            "image": stage.upstream.reference(images.runnable()),
            "resources": {"cpu": 3, "memory": 2048, "storage_amount": 5_000_000_000},
            "command": ["serve", "--name=<b>x</b>"],
            "environment_variables": {"API_TOKEN": "very secret"},
            "priority": "low",
            "registry_authentication": {
                "basic": {"username": stage.upstream.username, "password": stage.upstream.password}
            },
        },
        "autostart_policy": False,
        "replicas": 7,
        "restart_policy": "on_failure",
        "country_codes": ["de", "fr"],
        "networking": {"auth": True, "port": 8123, "protocol": "http"},
        "liveness_probe": {
            "exec": {"command": ["probe"]},
            "failure_threshold": 4,
            "initial_delay_seconds": 1,
            "period_seconds": 9,
            "success_threshold": 1,
            "timeout_seconds": 2,
        },
    }
    stage.customer.call("POST", "", body).expect(201)
    visitor = stage.visitor(stage.organization)
    said = plain(visitor.get(stage.path(name)))
    for fact in (
        "Configured group",
        "CPU cores 3",
        "Memory 2048 MiB",
        "5.0 GB",
        "--name=<b>x</b>",
        "low",
        "Replicas 7",
        "on failure",
        "de; fr",
        "8123",
        "Liveness probe failure threshold 4",
        "API_TOKEN",
    ):
        assert fact in said
    assert "very secret" not in said
    assert "API_TOKEN=very secret" in plain(visitor.get(stage.path(name, "?values=shown")))
