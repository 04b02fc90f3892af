"""Limits on the lifetime of a session and on the bytes that it may deliver."""

import json
from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True)
class LedgerLimits:
    """Limits of tokens and sessions (docs/tokens.md, "The life of a session").

    All servers of one ledger must use the same limits.

    Attributes:
        leeway_s: Tolerated clock difference at a token's expiry.
        grace_s: Time that a session stays open after its image was delivered completely.
        idle_s: Time without activity after which a session ends.
        base_s: Time of a session in addition to the delivery of the image at `rate_bytes_s`.
        rate_bytes_s: Delivery rate from which a session's deadline is calculated.
        cap_s: Maximum lifetime of a session, after which no request starts.
        lease_s: Time without a report after which a running response counts as lost.
        keep_s: Time that a finished token is kept after its expiry.
        budget_factor: Multiple of its image's size that a session may deliver.
        budget_slack_bytes: Additional bytes that it may deliver.
        window_min_bytes: Bytes of the budget that a response reserves at its start.
        window_max_bytes: Maximum bytes that it reserves ahead of its delivery.
        spans: Maximum number of separate delivered ranges that are recorded per blob.
        barrier_s: Time that a revoked group or organization gets no new tokens.
    """

    leeway_s: float = 30
    grace_s: float = 30
    idle_s: float = 15 * 60
    base_s: float = 10 * 60
    rate_bytes_s: int = 1_000_000
    cap_s: float = 24 * 3600
    lease_s: float = 60
    keep_s: float = 3600
    budget_factor: float = 3
    budget_slack_bytes: int = 16 * _MIB
    window_min_bytes: int = _MIB
    window_max_bytes: int = 128 * _MIB
    spans: int = 64
    barrier_s: float = 60

    def as_json(self, *, fence: bool) -> str:
        """Return the limits in the form of the scripts: milliseconds and bytes.

        Args:
            fence: Whether an unredeemed token is valid only on the primary that minted it.
        """
        return json.dumps(
            {
                "leeway": round(self.leeway_s * 1000),
                "grace": round(self.grace_s * 1000),
                "idle": round(self.idle_s * 1000),
                "base": round(self.base_s * 1000),
                "rate": self.rate_bytes_s,
                "cap": round(self.cap_s * 1000),
                "lease": round(self.lease_s * 1000),
                "keep": round(self.keep_s * 1000),
                "budget_factor": self.budget_factor,
                "budget_slack": self.budget_slack_bytes,
                "window_min": self.window_min_bytes,
                "window_max": self.window_max_bytes,
                "spans": self.spans,
                "fence": fence,
            }
        )
