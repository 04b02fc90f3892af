"""Roles of people, and scopes of API keys. No I/O."""

from enum import IntEnum, StrEnum


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
