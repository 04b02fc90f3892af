"""People who sign in at the identity provider, and their roles. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

from auth.actor import Actor, ActorKind
from registry.api.public import Caller
from registry.model.access import Role, RoleMapping

_PREFIX: Final = b"person:"  # longer than the hash of a key with what follows


@dataclass(frozen=True, slots=True)
class Person:
    """A person, as a session stores them.

    Attributes:
        issuer: The identity provider.
        subject: Their id at the provider, which never changes (OpenID Connect Core 1.0, section 2).
        values: Values of the claim that give them roles.
        place: The organization in which they act, if they have chosen one.
    """

    issuer: str
    subject: str
    name: str
    values: tuple[str, ...]
    place: str | None = None

    def encode(self) -> bytes:
        """Return the person as bytes for a session store."""
        return _PREFIX + json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, holder: bytes) -> Self | None:
        """Return the person who holds a session; None if the holder is the hash of a key."""
        if not holder.startswith(_PREFIX + b"{"):
            return None
        facts = json.loads(holder.removeprefix(_PREFIX))
        return cls(**{**facts, "values": tuple(facts["values"])})

    @property
    def actor(self) -> Actor:
        """The person, for the audit trail."""
        return Actor(ActorKind.PERSON, self.subject, self.name)

    def at(self, organization: str) -> Self:
        """Return the person acting in an organization."""
        return replace(self, place=organization)


@dataclass(frozen=True, slots=True)
class PersonsUser:
    """What a person may do at present.

    Attributes:
        places: Organizations among which they can choose; empty for operators.
    """

    caller: Caller
    role: Role
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class People:
    """The roles of people, by the operator's settings.

    Attributes:
        issuer: The identity provider; sessions of people of another one have ended.
        session_s: Seconds after which a person signs in again, so that a removed role ends.
    """

    issuer: str
    mapping: RoleMapping
    session_s: int

    def user(self, person: Person) -> PersonsUser | None:
        """Return what a person may do; None if they have no role any more."""
        grants: Mapping[str | None, Role] = self.mapping.grants(person.values)
        if person.issuer != self.issuer or not grants:
            return None
        place = person.place if person.place in grants else next(iter(grants))
        role = grants[place]
        is_operator = role is Role.OPERATOR
        actor = replace(person.actor, is_operator=is_operator)
        places = tuple(each for each in grants if each is not None)
        return PersonsUser(Caller(place, actor=actor), role, places)
