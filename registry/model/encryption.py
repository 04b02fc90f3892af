"""Policy for the delivery of layers: as ciphertext for one node's key, or as plaintext."""

from enum import StrEnum
from typing import Final

from registry.errors import ConflictError
from registry.model.nodes import Runtime


class Encryption(StrEnum):
    """Whether layers are delivered encrypted (docs/encrypted-delivery.md, "policy")."""

    NONE = "none"
    PREFERRED = "preferred"
    REQUIRED = "required"


DECRYPTING_RUNTIMES: Final = frozenset(Runtime) - {Runtime.DOCKER}
"""Runtimes of nodes that can decrypt layers. Docker's own store cannot, without a proxy."""


def policy_for(server: Encryption, organization: Encryption | None) -> Encryption:
    """Return an organization's policy: its own, unless the server requires encryption."""
    if server is Encryption.REQUIRED or organization is None:
        return server
    return organization


def choose_encryption(policy: Encryption, asked: Encryption | None) -> Encryption:
    """Return how one token's layers are delivered.

    Args:
        policy: Result of `policy_for`.
        asked: What the scheduler asked for; None leaves it to the policy.

    Raises:
        ConflictError: Plaintext was asked for, and the policy forbids it.
    """
    if policy is not Encryption.REQUIRED:
        return asked or policy
    if asked is Encryption.NONE:
        raise ConflictError(
            "This organization's layers are delivered encrypted only: ask for `required`, or have the "
            "operator change the policy (`crisper organization encryption`, CRISPER_ENCRYPTION)."
        )
    return policy
