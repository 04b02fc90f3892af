"""Docker scope strings, read (pure).

    scope    = resource *( SP resource )
    resource = type ":" name ":" action *( "," action )

The name may hold colons (a registry's host and port), so it ends at the last one. From the distribution
project's "token scope" document.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_CHARS = 4096
_ACTION = re.compile(r"[a-z*]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """One resource that a client asks for."""

    type: str
    name: str
    actions: frozenset[str]

    def asks_to_pull(self, repository: str) -> bool:
        """Tell whether this asks to pull `repository`."""
        return (
            self.type == "repository"
            and self.name == repository
            and not self.actions.isdisjoint({"pull", "*"})
        )


def parse_scopes(values: Iterable[str]) -> tuple[Scope, ...]:
    """Read the `scope` parameters of a request.

    What cannot be read is asked for in vain and left out, as other realms do; it can never grant anything.
    So is everything beyond 4,096 characters in all.

    Args:
        values: One string per repeated parameter, each of scopes separated by spaces.
    """
    words = " ".join(values)[:_MAX_CHARS].split(" ")
    return tuple(scope for word in words if (scope := _parse(word)) is not None)


def _parse(word: str) -> Scope | None:
    resource, _, listed = word.rpartition(":")
    type_, _, name = resource.partition(":")
    actions = frozenset(listed.split(","))
    if not type_ or not name or not all(_ACTION.fullmatch(action) for action in actions):
        return None
    return Scope(type_.partition("(")[0], name, actions)
