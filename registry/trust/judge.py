"""Decides whether a policy accepts an image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from registry.errors import SignatureError
from registry.trust.policy import CosignKeyRule, Policy, ProvenanceRule, Require
from registry.trust.signatures import OF_ANOTHER_KIND, Signature, Subject, UnreadableSignature
from registry.trust.verdict import Verdict
from registry.trust.verifiers import ProvenanceVerifier, verifier_of
from storage.digest import Digest

MAX_SHOWN: Final = 5
"""Number of signers and of reasons in a sentence."""

MAX_NAME_CHARS: Final = 2048
"""Length limit of a signer's name, or of a build's, in a verdict and its sentence."""


class Judge:
    """Collects the valid signatures of one image.

    A rule accepts an image if it accepts a signature of the image's root document, or a signature of the
    manifest of each imported platform.

    Args:
        root: Digest of the document that the reference names.
        manifests: Digests of the manifests of the imported platforms.

    Raises:
        SignatureError: A key or certificate of the policy is not valid.
    """

    def __init__(self, policy: Policy, root: Digest, manifests: Sequence[Digest], now: datetime) -> None:
        self._policy = policy
        self._root = root
        self._manifests = frozenset(manifests)
        self._now = now
        self._verifiers = [verifier_of(rule, now) for rule in policy.rules]
        self._accepted: list[set[Digest]] = [set() for _ in self._verifiers]
        self._signers: dict[str, None] = {}
        self._builds: dict[str, None] = {}
        self._reasons: Counter[str] = Counter()
        self._found = 0

    def consider(self, subject: Subject, signatures: Iterable[Signature]) -> None:
        """Verify the signatures of one of the image's documents."""
        for signature in signatures:
            self._found += 1
            if isinstance(signature, UnreadableSignature):
                self._reasons[signature.reason] += 1
                continue
            reasons: dict[str, None] = {}
            is_accepted = False
            for verifier, accepted in zip(self._verifiers, self._accepted, strict=True):
                try:
                    signer = verifier.verify(signature, subject)
                except SignatureError as error:
                    reasons[str(error)] = None
                else:
                    is_accepted = True
                    names = self._builds if isinstance(verifier, ProvenanceVerifier) else self._signers
                    names[signer[:MAX_NAME_CHARS]] = None
                    accepted.add(subject.digest)
            if not is_accepted:
                self._count(reasons)

    @property
    def accepts(self) -> bool:
        """Whether the policy accepts the image, by the signatures so far."""
        satisfied = [self._satisfied(accepted) for accepted in self._accepted]
        return bool(satisfied) and (any(satisfied) if self._policy.require is Require.ANY else all(satisfied))

    def verdict(self, organization: str) -> Verdict:
        """Return the verdict, by the signatures so far."""
        policy, signers, builds = self._policy, tuple(self._signers), tuple(self._builds)
        facts = [f"signed by {_enumerate(signers)}"] if signers else []
        facts += [f"built by {_enumerate(builds)}"] if builds else []
        sentence = "; ".join(facts) if self.accepts else self._refusal(organization)
        return Verdict(self.accepts, policy.mode, policy.pattern, signers, sentence, self._now, builds)

    def _satisfied(self, accepted: set[Digest]) -> bool:
        return self._root in accepted or (bool(self._manifests) and self._manifests <= accepted)

    def _count(self, reasons: Iterable[str]) -> None:
        """Count why no rule accepts a signature: for the reason of the rule that came closest."""
        known = list(reasons)
        closest = [reason for reason in known if reason != OF_ANOTHER_KIND] or known
        self._reasons.update(closest[:1])

    def _refusal(self, organization: str) -> str:
        policy = self._policy
        ask = f"ask the operator to change the policy for {policy.pattern}"
        if not self._verifiers:
            return f"{organization}'s policy for {policy.pattern} accepts no image: {ask}"
        only_keys = all(isinstance(rule, CosignKeyRule) for rule in policy.rules)
        trusted = f"{organization}'s {'keys' if only_keys else 'trusted signers'}"
        needs_provenance = any(isinstance(rule, ProvenanceRule) for rule in policy.rules)
        noun = "signature or attestation" if needs_provenance else "signature"
        found = f"1 {noun}" if self._found == 1 else f"{self._found or 'no'} {_plural(noun)}"
        facts = [f"{count} {reason}" for reason, count in self._reasons.most_common(MAX_SHOWN)]
        detail = f": {'; '.join(facts)}" if facts else ""
        if policy.require is Require.ALL:
            rules = zip(self._verifiers, self._accepted, strict=True)
            missing = [verifier.name for verifier, accepted in rules if not self._satisfied(accepted)]
            detail += f"; missing: {_enumerate(missing)}"
        wanted = "any" if policy.require is Require.ANY else "all"
        if all(isinstance(rule, ProvenanceRule) for rule in policy.rules):
            return (
                f"the image has no provenance that {organization}'s policy accepts ({found} found{detail}): "
                f"attest it with `cosign attest --type slsaprovenance1`, or {ask}"
            )
        return (
            f"the image is not signed by {wanted} of {trusted} ({found} found{detail}): sign it with "
            f"{'one of them' if wanted == 'any' else 'each of them'}, or {ask}"
        )


def _plural(noun: str) -> str:
    return noun.replace("signature", "signatures").replace("attestation", "attestations")


def _enumerate(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(name[:MAX_NAME_CHARS] for name in names[:MAX_SHOWN]) + more
