"""One verifier for each rule of a policy."""

from datetime import datetime
from typing import Protocol

from registry.errors import SignatureError
from registry.trust.cosign import verify_bundle, verify_simple_signing
from registry.trust.keyless import KeylessVerifier
from registry.trust.keys import fingerprint, load_public_key
from registry.trust.notation import NotationVerifier
from registry.trust.policy import CosignKeyRule, NotationRule, Rule
from registry.trust.signatures import OF_ANOTHER_KIND, Signature, SigstoreBundle, SimpleSigning, Subject


class Verifier(Protocol):
    """Verifies signatures by one rule."""

    @property
    def name(self) -> str:
        """Whom the rule trusts, for messages."""

    def verify(self, signature: Signature, subject: Subject) -> str:
        """Return the signer's name.

        Raises:
            SignatureError: The signature is not valid, not of the trusted signer, or of another subject.
        """


class KeyVerifier:
    """Verifies signatures that cosign made with a key."""

    def __init__(self, rule: CosignKeyRule) -> None:
        self._key = load_public_key(rule.key)
        self.name = f"cosign key {fingerprint(self._key)}"

    def verify(self, signature: Signature, subject: Subject) -> str:
        """Return the key's name. Raises SignatureError."""
        if isinstance(signature, SimpleSigning):
            verify_simple_signing(signature, self._key, subject)
        elif isinstance(signature, SigstoreBundle):
            verify_bundle(signature, self._key, subject)
        else:
            raise SignatureError(OF_ANOTHER_KIND)
        return self.name


def verifier_of(rule: Rule, now: datetime) -> Verifier:
    """Return the verifier of a rule. Raises SignatureError: its key or certificate is not valid."""
    if isinstance(rule, CosignKeyRule):
        return KeyVerifier(rule)
    if isinstance(rule, NotationRule):
        return NotationVerifier(rule, now)
    return KeylessVerifier(rule)
