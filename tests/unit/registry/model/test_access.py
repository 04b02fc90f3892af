"""Scopes of keys, and the mapping from claims to roles."""

import json
from typing import Any

import pytest

from registry.model.access import KeyScope, Role, RoleMapping

ROLES = {
    "crisper-ops": "operator",
    "acme-admins": "owner@acme",
    "acme-devs": "member@acme",
    "acme-viewers": "viewer@acme",
    "rival-devs": "member@rival",
}
MAPPING = RoleMapping.parse(json.dumps({"claim": "groups", "roles": ROLES}))


@pytest.mark.parametrize(
    ("values", "grants"),
    [
        ([], {}),
        (["acme-viewers"], {"acme": Role.VIEWER}),
        (["acme-viewers", "acme-admins", "acme-devs"], {"acme": Role.OWNER}),
        (["rival-devs", "acme-viewers"], {"acme": Role.VIEWER, "rival": Role.MEMBER}),
        (["acme-viewers", "crisper-ops"], {None: Role.OPERATOR}),
        (["unknown"], {}),
    ],
)
def test_the_highest_role_in_each_organization_is_granted(
    values: list[str], grants: dict[str | None, Role]
) -> None:
    assert dict(MAPPING.grants(values)) == grants


@pytest.mark.parametrize(
    ("claims", "values"),
    [
        ({}, ()),
        ({"groups": "acme-devs"}, ("acme-devs",)),
        ({"groups": ["everyone", "acme-devs", "acme-devs", 7, None]}, ("acme-devs",)),
        ({"groups": {"acme-devs": True}}, ()),
        ({"groups": 7}, ()),
        ({"Groups": ["acme-devs"]}, ()),
        ({"groups": ["ACME-DEVS", "acme-devs "]}, ()),
    ],
)
def test_only_exact_values_of_the_claim_count(claims: dict[str, Any], values: tuple[str, ...]) -> None:
    assert MAPPING.values(claims) == values


def test_a_claim_is_found_by_its_name_or_its_path() -> None:
    nested = RoleMapping("realm_access.roles", {"ops": (Role.OPERATOR, None)})
    assert nested.values({"realm_access": {"roles": ["ops"]}}) == ("ops",)
    assert nested.values({"realm_access.roles": ["ops"]}) == ("ops",)
    assert nested.values({"realm_access": ["roles"]}) == ()
    address = RoleMapping("https://example.com/groups", {"ops": (Role.OPERATOR, None)})
    assert address.values({"https://example.com/groups": ["ops"]}) == ("ops",)
    assert (nested.has_claim({"realm_access": {"roles": []}}), nested.has_claim({})) == (True, False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write"),
        ("[]", "write"),
        ('{"claim": "groups"}', "write"),
        ('{"claim": "", "roles": {"a": "operator"}}', "write"),
        ('{"claim": "groups", "roles": {}}', "write"),
        ('{"claim": "groups", "roles": ["operator"]}', "write"),
        ('{"claim": "groups", "roles": {"a": "operator"}, "other": 1}', "write"),
        ('{"claim": "groups", "roles": {"a": "admin@acme"}}', "no role"),
        ('{"claim": "groups", "roles": {"a": "operator@acme"}}', "no role"),
        ('{"claim": "groups", "roles": {"a": "owner"}}', "no role"),
        ('{"claim": "groups", "roles": {"a": "owner@Acme"}}', "no role"),
        ('{"claim": "groups", "roles": {"a": "owner@a@b"}}', "no role"),
    ],
)
def test_another_mapping_is_refused_with_the_rule(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RoleMapping.parse(text)


def test_each_scope_includes_the_lesser_ones() -> None:
    order = [KeyScope.READ, KeyScope.DEPLOY, KeyScope.FULL]
    for index, scope in enumerate(order):
        assert [scope.includes(each) for each in order] == [n <= index for n in range(3)]
