"""Limits on the lifetime of a session and on the bytes that it may deliver."""

import json
from dataclasses import dataclass

from auth.records import LEDGER_EXCHANGES

_MIB = 1024 * 1024


@dataclass(frozen=True)
class LedgerLimits:
    """Limits of tokens and sessions (docs/tokens.md, "The life of a session").

    All servers of one ledger must use the same limits.

    Attributes:
        leeway_s: Tolerated clock difference when a token expires.
        grace_s: Time from the delivery of an image's last byte to the end of its session.
        idle_s: Time without activity after which a session ends.
        base_s: Time that a session's deadline allows in addition to the transfer time of the image.
        rate_bytes_s: Transfer rate from which the deadline is calculated.
        cap_s: Maximum lifetime of a session, after which no request starts.
        lease_s: Time without a report after which a running response counts as lost.
        keep_s: Time for which an ended token is kept after it could last have been valid.
        budget_factor: Multiple of its image's size that a session may deliver.
        budget_slack_bytes: Bytes that it may deliver in addition.
        window_min_bytes: Bytes that a response reserves from the budget when it starts.
        window_max_bytes: Maximum bytes that it reserves ahead of the delivered ones.
        spans: Maximum number of separate delivered ranges that are stored per blob.
        barrier_s: Time for which a revoked group, organization or node gets no new tokens.
        backlog: Maximum number of events that wait for the catalog; beyond that no token is redeemed.
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
    backlog: int = 250_000

    def as_json(self, *, fence: bool, streams: int = 1) -> str:
        """Return the limits as JSON for the scripts, in milliseconds and bytes.

        Args:
            fence: Whether an unredeemed token is valid only on the primary that minted it.
            streams: Number of streams that share the backlog.
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
                "backlog": self.backlog // streams,
                "exchanges": LEDGER_EXCHANGES,
                "fence": fence,
            }
        )
