"""One response of a session, metered."""

import time
from typing import Final

import structlog

from auth.errors import LedgerUnavailableError, RefusedError
from auth.ports import TokenLedger

REPORT_EVERY_S: Final = 15.0

_log = structlog.get_logger(__name__)


class MeteredDelivery:
    """The bytes of one response, from its start to its end (docs/tokens.md, "The byte budget").

    The HTTP layer calls `sent` after each piece, `report` whenever that says so and at least every 15 s
    even while a slow client takes nothing, and `finish` at the end, however it ends.

        try:
            for piece in body:
                await write(piece)
                if delivery.sent(position, len(piece)):
                    await delivery.report()
        finally:
            await shield(delivery.finish())

    Args:
        ledger: Where it is metered.
        token_id: The token whose session it belongs to.
        response_id: As given to the ledger's `begin`.
        blob: The blob's digest; None for a manifest, a list, or the head of anything, which is not metered.
        length: Bytes that the response will deliver.
        granted: Bytes that may be sent before the first report.
    """

    def __init__(
        self,
        ledger: TokenLedger,
        token_id: str,
        response_id: str,
        *,
        blob: str | None,
        length: int,
        granted: int,
    ) -> None:
        self._ledger = ledger
        self._token_id = token_id
        self._response_id = response_id
        self._blob = blob
        self._length = length
        self._granted = granted
        self._start = 0
        self._sent = 0
        self._reported_at = time.monotonic()
        self._ended = False

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far."""
        return self._sent

    @property
    def allowance(self) -> int:
        """Bytes that may be sent before a report is due."""
        left = self._length - self._sent
        return left if self._blob is None else min(left, max(0, self._granted - self._sent))

    def sent(self, start: int, nbytes: int) -> bool:
        """Count bytes that were sent; cheap, and sends nothing.

        Args:
            start: Where they start within the blob.
            nbytes: How many they are.

        Returns:
            Whether `report` is due before more is sent.

        Raises:
            ValueError: They do not follow those before: a response is one contiguous range.
        """
        if self._sent == 0:
            self._start = start
        elif start != self._start + self._sent:
            raise ValueError("a response is one contiguous range")
        self._sent += nbytes
        if self._blob is None:
            return False
        spent = self._granted <= self._sent < self._length
        return spent or time.monotonic() - self._reported_at >= REPORT_EVERY_S

    async def report(self) -> None:
        """Tell the ledger how far it is; renews the lease that keeps the session open.

        Raises:
            RefusedError: The response must stop: its token was revoked, or its budget is spent.
            LedgerUnavailableError: The budget cannot be asked for more. A response that has not spent what
                it was granted goes on without.
        """
        self._reported_at = time.monotonic()
        try:
            self._granted = await self._tell(ended=False)
        except LedgerUnavailableError:
            if self._granted <= self._sent < self._length:
                raise

    async def finish(self) -> None:
        """Tell the ledger that nothing more will follow; raises nothing, and may be called again.

        When the ledger does not answer, its lease lapses by itself, and what was reserved stays spent.
        """
        if self._ended:
            return
        self._ended = True
        try:
            await self._tell(ended=True)
        except RefusedError:
            return  # the token is over: there is nothing left to settle
        except LedgerUnavailableError:
            _log.warning("delivery.unsettled", token_id=self._token_id, bytes_sent=self._sent)

    async def _tell(self, *, ended: bool) -> int:
        if self._blob is None:
            return 0
        return await self._ledger.report(
            self._token_id,
            self._response_id,
            blob=self._blob,
            start=self._start,
            sent=self._sent,
            length=self._length,
            ended=ended,
        )
