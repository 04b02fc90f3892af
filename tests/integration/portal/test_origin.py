"""The group's page shows the origin of its image, and its SBOM is downloaded from there."""

import re
from collections.abc import Iterator

import pytest

from tests.integration.portal.conftest import READY, Stage
from tests.support import images
from tests.support.http import Response
from tests.support.portal import plain
from tests.support.signing import new_key, public_pem

NAME = "attested"


@pytest.fixture
def attested(stage: Stage) -> Iterator[Response]:
    """The page of a group whose image has attestations, imported under a policy that only warns."""
    stage.upstream.push(images.multi_platform())
    rule = {"type": "cosign-key", "key": public_pem(new_key())}
    policy = {"pattern": "*/acme/multi", "mode": "warn", "require": "any", "rules": [rule]}
    path = f"/organizations/{stage.organization.name}/policies"
    stage.server.operator.call("PUT", path, {"policies": [policy]}).expect(200)
    login = stage.upstream.login
    stage.customer.create_group(stage.upstream.reference(images.multi_platform()), name=NAME, **login)
    stage.customer.wait_settled(NAME)
    yield stage.visitor(stage.organization).get(stage.path(NAME))
    stage.server.operator.call("PUT", path, {"policies": []}).expect(200)
    stage.customer.delete(NAME)


def test_the_page_shows_verdict_provenance_and_sbom(stage: Stage, attested: Response) -> None:
    said = plain(attested)
    assert "Signatures Not trusted: the image is not signed by any of" in said
    assert "ask the operator to change the policy for */acme/multi" in said
    assert "Provenance https://ci.example/builds/7 from https://github.com/acme/app" in said
    assert "stated by the publisher, not verified" in said
    assert "use `crisper policy set` to change the policy" in plain(stage.operator.get(stage.path(NAME)))
    [link] = re.findall(r'href="([^"]+/spdx)"', attested.body.decode())
    found = stage.visitor(stage.organization).get(link).expect(200)
    assert found.json() == images.SPDX
    assert found.headers["Content-Type"] == "application/spdx+json"
    assert found.headers["Content-Disposition"].startswith("attachment; filename=")
    stage.visitor(stage.organization).get(link.replace("/spdx", "/cyclonedx")).expect(404)
    stage.visitor(stage.organization).get(link.replace(NAME, READY)).expect(404)
    stage.visitor(stage.other).get(link).expect(404)


def test_an_image_of_which_nothing_is_known_has_no_such_part(stage: Stage) -> None:
    assert "Origin of the image" not in plain(stage.visitor(stage.organization).get(stage.path(READY)))
