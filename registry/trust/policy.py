"""Policies: whose images an organization imports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from registry.trust import glob

MAX_POLICIES: Final = 100
MAX_RULES: Final = 32
MAX_PATTERN_CHARS: Final = 512


class Mode(StrEnum):
    """What happens to an image that no rule accepts."""

    ENFORCE = "enforce"  # its import fails
    WARN = "warn"  # it is imported, and the verdict is stored with it


class Require(StrEnum):
    """How many rules of a policy must accept an image."""

    ANY = "any"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CosignKeyRule:
    """Accepts signatures that cosign made with a key. The key is in PEM."""

    key: str


@dataclass(frozen=True, slots=True)
class CosignKeylessRule:
    """Accepts signatures that cosign made with a short-lived certificate of an identity.

    Attributes:
        issuer: Pattern of the URL of the OpenID Connect provider.
        identity: Pattern of the certificate's subject: an e-mail address or a URI.
        trusted_root: Sigstore's trusted root (JSON); None is the public one that sigstore-python contains.
    """

    issuer: str
    identity: str
    trusted_root: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NotationRule:
    """Accepts signatures of the Notary Project that lead to a certificate.

    Attributes:
        certificate: PEM of one or several trusted certificates.
        identity: Attributes that the signer's subject must have, as `C=US, O=acme`; None accepts any.
    """

    certificate: str
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class ProvenanceRule:
    """Accepts SLSA provenance that cosign attested with a key, or for an identity.

    Attributes:
        builder: Pattern of the builder's id.
        source: Pattern of the source repository; None accepts any.
        key: Public key in PEM; None if the signer is an identity.
        issuer: As in a rule of the type `cosign-keyless`, like `identity` and `trusted_root`.
    """

    builder: str
    source: str | None = None
    key: str | None = None
    issuer: str | None = None
    identity: str | None = None
    trusted_root: Mapping[str, Any] | None = None

    @property
    def signer(self) -> CosignKeyRule | CosignKeylessRule | None:
        """The rule for the attestation's signature; None unless there is either a key or an identity."""
        names = (self.issuer, self.identity)
        if self.key is not None:
            is_alone = names == (None, None) and self.trusted_root is None
            return CosignKeyRule(self.key) if is_alone else None
        if self.issuer is None or self.identity is None:
            return None
        return CosignKeylessRule(self.issuer, self.identity, self.trusted_root)


Rule = CosignKeyRule | CosignKeylessRule | NotationRule | ProvenanceRule

_TYPES: Final[Mapping[str, type[Rule]]] = {
    "cosign-key": CosignKeyRule,
    "cosign-keyless": CosignKeylessRule,
    "notation": NotationRule,
    "slsa-provenance": ProvenanceRule,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules for the images of repositories that match a pattern.

    A policy without rules accepts no image.

    Attributes:
        pattern: Pattern of `registry/repository`; Docker Hub is `docker.io`.
    """

    pattern: str
    mode: Mode
    require: Require
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, fields: Mapping[str, Any]) -> "Policy":
        """Build a policy from valid JSON, as the operator API checks and the catalog stores it."""
        rules = (
            _TYPES[rule["type"]](**{name: value for name, value in rule.items() if name != "type"})
            for rule in fields["rules"]
        )
        return cls(fields["pattern"], Mode(fields["mode"]), Require(fields["require"]), tuple(rules))


def policy_for(policies: Sequence[Policy], names: Sequence[str]) -> Policy | None:
    """Return the first policy that matches one of a repository's names (`registry/repository`), or None."""
    return next(
        (policy for policy in policies if any(glob.matches(policy.pattern, name) for name in names)), None
    )
