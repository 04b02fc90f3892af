"""The person or key on whose behalf a request runs, for the audit trail.

The actor is ambient: an entry point sets it for the time of a request, and an audit event takes it when it is
created (docs/adr/0081-named-people.md). Background work has none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ActorKind(StrEnum):
    """Kind of an actor."""

    PERSON = "person"
    API_KEY = "api_key"
    OPERATOR_KEY = "operator_key"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a key.

    Attributes:
        id: A person's subject at the identity provider, or an API key's id; empty for the operator key.
        name: Display name of the person, or the key's name.
        is_operator: Whether they act as an operator. Customers are not shown who that is.
    """

    kind: ActorKind
    id: str
    name: str
    is_operator: bool = False


OPERATOR_KEY: Final = Actor(ActorKind.OPERATOR_KEY, "", "operator key", is_operator=True)

_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


def current_actor() -> Actor | None:
    """Return the actor of the running request; None outside of a request, or if nobody is authenticated."""
    return _acting.get()


@contextmanager
def acting_as(actor: Actor | None) -> Iterator[None]:
    """Set the actor of all audit events that are created in the block."""
    before = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(before)
