"""Policies and verdicts in the catalog, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auth.ports import AuditEvent
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import Database
from registry.catalog.events import SqlEventLog
from registry.catalog.images import SqlImages
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.policies import SqlPolicies
from registry.errors import NotFoundError
from registry.model.organizations import Organization
from registry.trust.policy import CosignKeylessRule, CosignKeyRule, Mode, NotationRule, Policy, Require
from registry.trust.verdict import Verdict
from tests.integration.catalog.test_catalog import SettableClock
from tests.integration.catalog.test_variants import enter, image, variant

CHANGED = AuditEvent(RegistryEventType.POLICIES_CHANGED, "acme", detail={"policies": []})
STORED: list[dict[str, Any]] = [
    {
        "pattern": "ghcr.io/acme/*",
        "mode": "enforce",
        "require": "all",
        "rules": [
            {"type": "cosign-key", "key": "PEM"},
            {"type": "cosign-keyless", "issuer": "https://a", "identity": "*", "trusted_root": {"a": [1]}},
            {"type": "notation", "certificate": "PEM"},
        ],
    },
    {"pattern": "*", "mode": "warn", "require": "any", "rules": []},
]
LOADED = (
    Policy(
        "ghcr.io/acme/*",
        Mode.ENFORCE,
        Require.ALL,
        (CosignKeyRule("PEM"), CosignKeylessRule("https://a", "*", {"a": [1]}), NotationRule("PEM")),
    ),
    Policy("*", Mode.WARN, Require.ANY, ()),
)


async def test_policies_are_replaced_together_with_their_event(database: Database) -> None:
    clock = SettableClock()
    await SqlOrganizationDirectory(database).add(Organization("acme", clock.now()))
    policies = SqlPolicies(database, clock)
    assert (list(await policies.show("acme")), tuple(await policies.of("acme"))) == ([], ())
    await policies.set("acme", STORED, CHANGED)
    assert list(await policies.show("acme")) == STORED
    assert tuple(await policies.of("acme")) == LOADED
    await policies.set("acme", STORED[1:], CHANGED)
    assert tuple(await policies.of("acme")) == LOADED[1:]
    assert tuple(await policies.of("rival")) == ()
    listed = await SqlEventLog(database, clock).page(type_=RegistryEventType.POLICIES_CHANGED)
    assert len(listed) == 2


async def test_an_unknown_organization_has_no_policies(database: Database) -> None:
    policies = SqlPolicies(database, SettableClock())
    with pytest.raises(NotFoundError):
        await policies.show("nobody")
    with pytest.raises(NotFoundError):
        await policies.set("nobody", STORED, CHANGED)


async def test_the_last_verdict_stays_until_there_is_another(database: Database) -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    first = Verdict(True, Mode.ENFORCE, "*", ("a", "b"), "signed by a, b", now)
    later = Verdict(False, Mode.WARN, "*", (), "the image is not signed", now + timedelta(days=1))
    found = []
    for name, verdict in (("first", first), ("without", None), ("later", later)):
        await enter(database, name, replace(image(variant()), verdict=verdict))
        [row] = await SqlImages(database).list("acme", 10)
        found.append(Verdict.load(row["verdict"]))
    assert found == [first, first, later]
    digest = str(image(variant()).manifest_digest)
    assert len(await SqlImages(database).list("acme", 10, digest)) == 1
    assert await SqlImages(database).list("acme", 10, "sha256:" + "0" * 64) == []
