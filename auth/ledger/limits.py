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
        leeway_s: Clock difference that is forgiven when a token expires.
        grace_s: From the last byte of a wholly delivered image to the end of its session.
        idle_s: From the last sign of life to the end of the session.
        base_s: What a session's deadline allows beyond the time to deliver the image.
        rate_bytes_s: The slowest delivery that the deadline allows for.
        cap_s: The longest life of a session, after which no request starts.
        lease_s: From the last report of a running response until it counts as lost.
        keep_s: How long a finished token is remembered beyond the time when it could have been valid.
        budget_factor: How many times its image a session may deliver.
        budget_slack_bytes: What it may deliver beyond that.
        window_min_bytes: What a response reserves of the budget when it starts.
        window_max_bytes: The most that it reserves ahead of what it has delivered.
        spans: Separate delivered ranges that are remembered per blob.
        barrier_s: How long a revoked group, organization or node gets no new tokens.
        backlog: Events that may wait for the catalog; beyond that no token is redeemed.
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
        """Return the limits as the scripts read them: milliseconds and bytes.

        Args:
            fence: Whether a waiting token is good only under the primary that it was minted under.
            streams: How many streams share the backlog.
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
