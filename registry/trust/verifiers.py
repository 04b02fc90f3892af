"""One verifier for each rule of a policy."""

from datetime import datetime
from typing import Protocol

from registry.errors import SignatureError
from registry.trust.cosign import open_bundle, verify_bundle, verify_simple_signing
from registry.trust.keyless import KeylessVerifier
from registry.trust.keys import fingerprint, load_public_key
from registry.trust.notation import NotationVerifier
from registry.trust.policy import CosignKeyRule, NotationRule, ProvenanceRule, Rule
from registry.trust.provenance import check_provenance, read_provenance
from registry.trust.signatures import (
    OF_ANOTHER_KIND,
    Attestation,
    Signature,
    SigstoreBundle,
    SimpleSigning,
    Subject,
)
from registry.trust.statements import Statement, open_envelope, parse


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

    def open(self, signature: Signature, subject: Subject) -> tuple[str, Statement | None]:
        """Verify a signed statement by the key, without its subject. Raises SignatureError.

        Returns:
            The key's name, and the statement; None if a bundle signs the subject itself.
        """
        if isinstance(signature, Attestation):
            return self.name, open_envelope(parse(signature.data, "the envelope"), self._key)
        if isinstance(signature, SigstoreBundle):
            return self.name, open_bundle(signature, self._key, subject)
        raise SignatureError(OF_ANOTHER_KIND)


class ProvenanceVerifier:
    """Verifies provenance of SLSA that cosign attested."""

    def __init__(self, rule: ProvenanceRule) -> None:
        signer = rule.signer
        if signer is None:
            raise SignatureError("the rule needs either a key, or an issuer and an identity")
        self._rule = rule
        self._signer = KeyVerifier(signer) if isinstance(signer, CosignKeyRule) else KeylessVerifier(signer)
        self.name = f"provenance of {rule.builder} from {rule.source or 'any source'}"

    def verify(self, signature: Signature, subject: Subject) -> str:
        """Return the builder, the source and the signer. Raises SignatureError."""
        signer, statement = self._signer.open(signature, subject)
        if statement is None:
            raise SignatureError("which is a signature, not an attestation of provenance")
        found = read_provenance(statement)
        statement.check_subject(subject)
        check_provenance(found, self._rule.builder, self._rule.source)
        return f"{found} (attested by {signer})"

    def check(self) -> None:
        """Check the rule's trusted root. Raises SignatureError."""
        if isinstance(self._signer, KeylessVerifier):
            self._signer.check()


def verifier_of(rule: Rule, now: datetime) -> Verifier:
    """Return the verifier of a rule. Raises SignatureError: its key or certificate is not valid."""
    if isinstance(rule, CosignKeyRule):
        return KeyVerifier(rule)
    if isinstance(rule, NotationRule):
        return NotationVerifier(rule, now)
    if isinstance(rule, ProvenanceRule):
        return ProvenanceVerifier(rule)
    return KeylessVerifier(rule)


def check_rule(rule: Rule, now: datetime) -> None:
    """Check that a new rule can be used. Raises SignatureError."""
    verifier = verifier_of(rule, now)
    if isinstance(verifier, KeylessVerifier | ProvenanceVerifier):
        verifier.check()
