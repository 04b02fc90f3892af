"""Verdicts: what was found about the signatures of an image."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from registry.trust.policy import Mode


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of checking an image against a policy.

    Attributes:
        trusted: Whether the policy accepts the image.
        mode: The policy's mode.
        pattern: The policy's pattern.
        signers: Names of the keys, identities and certificates whose signatures are valid.
        sentence: The result in a sentence for the organization.
        builds: Builder, source and signer of each accepted attestation of provenance.
    """

    trusted: bool
    mode: Mode
    pattern: str
    signers: tuple[str, ...]
    sentence: str
    checked_at: datetime
    builds: tuple[str, ...] = ()

    @property
    def refuses(self) -> bool:
        """Whether the image must not be imported."""
        return self.mode is Mode.ENFORCE and not self.trusted

    def dump(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        lists = {"signers": list(self.signers), "builds": list(self.builds)}
        return {**asdict(self), **lists, "checked_at": self.checked_at.isoformat()}

    @classmethod
    def load(cls, fields: Mapping[str, Any]) -> "Verdict":
        """Return the verdict that `dump` wrote."""
        return cls(
            fields["trusted"],
            Mode(fields["mode"]),
            fields["pattern"],
            tuple(fields["signers"]),
            fields["sentence"],
            datetime.fromisoformat(fields["checked_at"]),
            tuple(fields.get("builds", ())),  # missing in verdicts from before provenance was verified
        )
