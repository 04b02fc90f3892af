"""Roles of people, and scopes of API keys. No I/O."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Self

_ORGANIZATION: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_EXAMPLE: Final = '{"claim": "groups", "roles": {"ops": "operator", "acme-admins": "owner@acme"}}'


class Role(IntEnum):
    """What a user of the portal may do. Each role includes the ones before it."""

    VIEWER = 1
    MEMBER = 2
    OWNER = 3
    OPERATOR = 4

    @property
    def label(self) -> str:
        """The role's name in settings and on pages."""
        return self.name.lower()


class KeyScope(StrEnum):
    """What an API key may do. Each scope includes the ones before it."""

    READ = "read"
    DEPLOY = "deploy"
    FULL = "full"

    @property
    def role(self) -> Role:
        """The role that a user has in the portal who signed in with the key."""
        return {KeyScope.READ: Role.VIEWER, KeyScope.DEPLOY: Role.MEMBER, KeyScope.FULL: Role.OWNER}[self]

    def includes(self, other: "KeyScope") -> bool:
        """Return whether a key of this scope may do what needs the other one."""
        return self.role >= other.role


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """The operator's mapping from the values of a claim to roles (CRISPER_OIDC_ROLES).

    Attributes:
        claim: Name of the claim; a path with dots reaches into objects, as in `realm_access.roles`.
        roles: Role and organization of each value; the organization of operators is None.
    """

    claim: str
    roles: Mapping[str, tuple[Role, str | None]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `{"claim": NAME, "roles": {VALUE: "operator" | "owner@ORGANIZATION" | ...}}`.

        Raises:
            ValueError: Says what to change.
        """
        try:
            document = json.loads(text)
            claim, roles = document["claim"], document["roles"]
            entries = {str(value): str(role) for value, role in roles.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"write {_EXAMPLE}") from None
        if not isinstance(claim, str) or not claim or not entries or set(document) != {"claim", "roles"}:
            raise ValueError(f"write {_EXAMPLE}")
        return cls(claim, {value: _parse_grant(entry) for value, entry in entries.items()})

    def values(self, claims: Mapping[str, object]) -> tuple[str, ...]:
        """Return the values of the claim that give a role; all others are ignored."""
        found = _at(claims, self.claim)
        listed = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        return tuple(sorted({each for each in listed if isinstance(each, str) and each in self.roles}))

    def has_claim(self, claims: Mapping[str, object]) -> bool:
        """Return whether the claims have the claim."""
        return _at(claims, self.claim) is not None

    def grants(self, values: Iterable[str]) -> Mapping[str | None, Role]:
        """Return the highest role in each organization. Operators have one grant, for None."""
        found: dict[str | None, Role] = {}
        for value in values:
            role, organization = self.roles.get(value, (None, None))
            if role is not None:
                found[organization] = max(role, found.get(organization, role))
        return {None: Role.OPERATOR} if None in found else dict(sorted(found.items(), key=str))


def _parse_grant(text: str) -> tuple[Role, str | None]:
    name, at, organization = text.partition("@")
    role = {each.label: each for each in Role}.get(name)
    if role is Role.OPERATOR and not at:
        return role, None
    if role is None or role is Role.OPERATOR or not _ORGANIZATION.fullmatch(organization):
        raise ValueError(f"{text!r} is no role: write operator, or owner@, member@ or viewer@ORGANIZATION")
    return role, organization


def _at(claims: Mapping[str, object], path: str) -> object:
    """Return a claim by its name, or else by its path. Names can contain dots, if they are URLs."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
