"""State of a node's encryption keys, and the rules of their rotation (docs/nodes.md). No I/O.

All times are the registry's, so that a wrong clock of the node neither deletes a key too early nor keeps it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Self

from registry.model.nodes import Runtime

SESSION: Final = timedelta(hours=24)
"""Longest lifetime of a session. The registry knows one previous key, so two rotations need this distance."""

KEPT: Final = SESSION + timedelta(hours=1)
"""How long a node keeps a replaced key: for sessions that began before, with a margin."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """Keys of a node at one registry, by their thumbprints.

    Attributes:
        current: The registry has confirmed this key.
        next: A new key. The registry has it, or not: the response may have been lost.
        retired: Replaced keys, with the time of their replacement.
        runtime: Container runtime that has the keys.
    """

    current: str | None = None
    next: str | None = None
    retired: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    runtime: Runtime | None = None

    @property
    def newest(self) -> str | None:
        """The key to announce."""
        return self.next or self.current

    @property
    def decrypting(self) -> Collection[str]:
        """Keys for which layers may be encrypted, newest first: the registry may not know the next one."""
        replaced = sorted(self.retired, key=lambda key: self.retired[key], reverse=True)
        return [key for key in (self.next, self.current, *replaced) if key is not None][:2]

    def may_rotate(self, now: datetime) -> bool:
        """Return whether no session needs the registry's previous key, which a rotation replaces."""
        return all(now - at >= SESSION for at in self.retired.values())

    def expired(self, now: datetime) -> Collection[str]:
        """Return the retired keys that no session needs any more."""
        return [key for key, at in self.retired.items() if now - at >= KEPT]

    def restricted_to(self, present: Collection[str]) -> Self:
        """Return the state for the key files that exist."""
        return replace(
            self,
            current=self.current if self.current in present else None,
            next=self.next if self.next in present else None,
            retired={key: at for key, at in self.retired.items() if key in present},
        )

    def confirmed(self, now: datetime, present: Collection[str]) -> Self:
        """Return the state after the registry has accepted the newest key.

        Key files that are not recorded count as retired now. So do times after now, which are from a clock
        that was wrong: otherwise a key would be kept until that time.
        """
        current = self.newest
        retired = {key: min(self.retired.get(key, now), now) for key in present if key != current}
        return replace(self, current=current, next=None, retired=retired)

    def without(self, keys: Collection[str]) -> Self:
        """Return the state without some retired keys."""
        return replace(self, retired={key: at for key, at in self.retired.items() if key not in keys})
