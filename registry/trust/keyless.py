"""Signatures that cosign made with the short-lived certificate of an identity, verified by sigstore-python.

The package `sigstore` is an extra (docs/adr/0073-signatures-at-import.md) and is imported on first use.
"""

import json
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat import asn1

from registry.errors import SignatureError
from registry.trust import glob
from registry.trust.cosign import parse_bundle, verify_statement
from registry.trust.policy import CosignKeylessRule
from registry.trust.signatures import (
    OF_ANOTHER_KIND,
    Attestation,
    Signature,
    SigstoreBundle,
    SimpleSigning,
    Subject,
)
from registry.trust.statements import Statement, read_statement

if TYPE_CHECKING:
    from sigstore.verify import Verifier

MAX_IDENTITY_CHARS: Final = 512

_PUBLIC_INSTANCE: Final = "https://tuf-repo-cdn.sigstore.dev"
# Fulcio's docs/oid-info.md: the issuer as a DER string, and before 2022 as plain bytes.
_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OLD_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


class _Anybody:
    """Accepts each certificate that Sigstore accepts. The identity is compared after that."""

    def verify(self, cert: x509.Certificate) -> None:
        """Accept a certificate."""


_ANYBODY: Final = _Anybody()


class KeylessVerifier:
    """Verifies signatures by identity, offline."""

    def __init__(self, rule: CosignKeylessRule) -> None:
        self._rule = rule
        self.name = f"cosign identity {rule.identity} of {rule.issuer}"
        self._root = None if rule.trusted_root is None else json.dumps(rule.trusted_root, sort_keys=True)

    def check(self) -> None:
        """Check the rule's own trusted root. Raises SignatureError: it is not valid.

        Not possible without the package `sigstore`: the first signature then shows it.
        """
        if self._root is None or find_spec("sigstore") is None:
            return
        try:
            _load_verifier(self._root)
        except SignatureError:
            raise SignatureError(
                "the trusted_root is not valid: use the content of Sigstore's trusted_root.json"
            ) from None

    def verify(self, signature: Signature, subject: Subject) -> str:
        """Return the signer's identity. Raises SignatureError."""
        name, statement = self.open(signature, subject)
        if statement is not None:
            verify_statement(statement, subject)
        return name

    def open(self, signature: Signature, subject: Subject) -> tuple[str, Statement | None]:
        """Verify a bundle's signature by the identity.

        Returns:
            The signer's identity, and the signed statement, whose subject is not checked; None if the bundle
            signs the subject itself.

        Raises:
            SignatureError: The bundle is not valid, or not by this identity.
        """
        if isinstance(signature, SimpleSigning | Attestation) and signature.keyless:
            raise SignatureError("by a certificate in the format of cosign 2: sign with cosign 3")
        if not isinstance(signature, SigstoreBundle):
            raise SignatureError(OF_ANOTHER_KIND)
        fields = parse_bundle(signature)
        material = fields.get("verificationMaterial")
        if isinstance(material, dict) and "publicKey" in material:
            raise SignatureError("by a key, not by a certificate")
        certificate, statement = self._verify(signature, subject, is_statement="dsseEnvelope" in fields)
        issuer, identities = _issuer_of(certificate), _identities_of(certificate)
        named = next((each for each in identities if glob.matches(self._rule.identity, each)), None)
        if named is None or not glob.matches(self._rule.issuer, issuer):
            shown = (*identities, "an unnamed identity")[0][:MAX_IDENTITY_CHARS]
            raise SignatureError(f"by another identity ({shown} of {issuer[:MAX_IDENTITY_CHARS]})")
        return f"cosign identity {named} of {issuer}", statement

    def _verify(
        self, signature: SigstoreBundle, subject: Subject, *, is_statement: bool
    ) -> tuple[x509.Certificate, Statement | None]:
        """Verify all but the identity. Returns the signer's certificate, and the signed statement."""
        verifier = _load_verifier(self._root)
        from sigstore.models import Bundle  # noqa: PLC0415 (an extra)

        try:
            bundle = Bundle.from_json(signature.data)
            if is_statement:
                signed = verifier.verify_dsse(bundle, _ANYBODY)
            else:
                verifier.verify_artifact(subject.data, bundle, _ANYBODY)
                signed = None
        except Exception as error:  # noqa: BLE001 - whatever a hostile bundle makes the library raise
            reason = "".join(filter(str.isprintable, str(error)))[:200]
            raise SignatureError(f"that Sigstore does not accept ({reason})") from None
        return bundle.signing_certificate, None if signed is None else read_statement(*signed)


@lru_cache(maxsize=32)
def _load_verifier(root: str | None) -> "Verifier":
    """Return the verifier for a trusted root. Raises SignatureError."""
    try:
        from sigstore.models import TrustedRoot  # noqa: PLC0415 (an extra)
        from sigstore.verify import Verifier  # noqa: PLC0415
    except ImportError:
        raise SignatureError("that this server cannot verify without crisper-registry[keyless]") from None
    if root is None:
        stored = files("sigstore._store") / quote(_PUBLIC_INSTANCE, safe="") / "trusted_root.json"
        root = stored.read_text()
    try:
        with NamedTemporaryFile("w", suffix=".json") as file:  # the library reads only files
            file.write(root)
            file.flush()
            return Verifier(trusted_root=TrustedRoot.from_file(file.name))
    except Exception:  # noqa: BLE001 - whatever a wrong root makes the library raise
        raise SignatureError("that needs another trusted root: that of the rule is not valid") from None


def _issuer_of(certificate: x509.Certificate) -> str:
    for oid in (_ISSUER, _OLD_ISSUER):
        try:
            value = certificate.extensions.get_extension_for_oid(oid).value
            raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
            return asn1.decode_der(str, raw) if oid == _ISSUER else raw.decode()
        except (x509.ExtensionNotFound, ValueError):
            continue
    return ""


def _identities_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    emails = names.get_values_for_type(x509.RFC822Name)
    return (*emails, *names.get_values_for_type(x509.UniformResourceIdentifier))
