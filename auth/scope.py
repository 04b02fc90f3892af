"""Parsing of Docker scope strings. No I/O.

    scope    = resource *( SP resource )
    resource = type ":" name ":" action *( "," action )

The name may contain colons (host and port of a registry), so it ends at the last one. The grammar is from the
distribution project's "token scope" document.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_CHARS = 4096
_ACTION = re.compile(r"[a-z*]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """One requested resource."""

    type: str
    name: str
    actions: frozenset[str]

    def asks_to_pull(self, repository: str) -> bool:
        """Return whether this requests pull access to `repository`."""
        return (
            self.type == "repository"
            and self.name == repository
            and not self.actions.isdisjoint({"pull", "*"})
        )


def parse_scopes(values: Iterable[str]) -> tuple[Scope, ...]:
    """Parse the `scope` parameters of a request.

    Ignores invalid scopes, as other realms do, and everything beyond 4,096 characters in total. Ignored
    scopes never grant access.

    Args:
        values: One string per parameter, with scopes separated by spaces.
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
