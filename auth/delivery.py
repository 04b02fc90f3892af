"""Metering of one response of a session."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from auth.errors import Cause, LedgerUnavailableError, RefusedError
from auth.ports import TokenLedger

REPORT_EVERY_S: Final = 15.0

_log = structlog.get_logger(__name__)


class MeteredDelivery:
    """Byte meter of one response, from its start to its end (docs/tokens.md, "The byte budget").

    The HTTP layer calls `sent` for each piece; `report` when `sent` requires it, and at least every 15 s,
    also while a slow client reads nothing; and `finish` at the end, also after an error.


        try:
            for piece in body:
                await write(piece)
                if delivery.sent(position, len(piece)):
                    await delivery.report()
        finally:
            await shield(delivery.finish())

    Args:
        ledger: Ledger that holds the byte budget.
        token_id: Token of the session.
        response_id: Id that was passed to the ledger's `begin`.
        blob: Digest of the blob; None for manifests and lists, which the gate charges, and for HEAD.
        length: Length of the response in bytes.
        granted: Bytes that may be sent before the first report.
        count: Called with numbers of delivered bytes of the blob, for statistics. Does no I/O.
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
        count: Callable[[int], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._token_id = token_id
        self._response_id = response_id
        self._blob = blob
        self._length = length
        self._granted = granted
        self._start = 0
        self._sent = 0
        self._began_at = self._reported_at = time.monotonic()
        self._ended = False
        self._received: Callable[[int], int] | None = None
        self._count = count
        self._counted = 0

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far, including those that are still on their way."""
        return self._sent

    @property
    def bytes_delivered(self) -> int:
        """Bytes that the client has received."""
        return self._sent if self._received is None else min(self._sent, self._received(self._sent))

    def measure(self, received: Callable[[int], int] | None) -> None:
        """Set the function that returns how many of the sent bytes the client has received.

        Only these are charged and recorded as delivered. Without a function, all sent bytes are.
        """
        self._received = received

    @property
    def allowance(self) -> int:
        """Bytes that may be sent before a report is due."""
        left = self._length - self._sent
        return left if self._blob is None else min(left, max(0, self._granted - self._sent))

    def sent(self, start: int, nbytes: int) -> bool:
        """Count sent bytes. Does no I/O.

        Args:
            start: Offset of the first byte in the blob.
            nbytes: Number of bytes.

        Returns:
            Whether `report` is due before more bytes are sent.

        Raises:
            ValueError: The bytes do not follow the previous ones.
        """
        if self._sent == 0:
            self._start = start
        elif start != self._start + self._sent:
            raise ValueError("a response must be one contiguous range")
        self._sent += nbytes
        if self._blob is None:
            return False
        spent = self._granted <= self._sent < self._length
        return spent or time.monotonic() - self._reported_at >= REPORT_EVERY_S

    async def report(self) -> None:
        """Report progress to the ledger, which renews the lease of the response and grants more bytes.

        Raises:
            RefusedError: The response must stop, because its token was revoked or its budget is spent.
            LedgerUnavailableError: The ledger cannot grant more bytes. Not raised while granted bytes are
                left.

        A step of the ledger's clock can remove the token's record. The response then continues to its end.
        """
        self._reported_at = time.monotonic()
        try:
            self._granted = await self._report(ended=False)
        except LedgerUnavailableError:
            if self._granted <= self._sent < self._length:
                raise
        except RefusedError as refusal:
            if refusal.cause is not Cause.UNKNOWN or not self._ledger.stepped_since(self._began_at):
                raise
            self._granted = self._length

    async def finish(self) -> None:
        """Report the end of the response to the ledger. Never raises, and can be called repeatedly.

        If the ledger does not answer, the lease expires by itself, and reserved bytes count as spent.
        """
        if self._ended:
            return
        self._ended = True
        try:
            await self._report(ended=True)
        except RefusedError:
            return  # the token has ended: nothing is left to report
        except LedgerUnavailableError:
            _log.warning("delivery.unreported", token_id=self._token_id, bytes_sent=self._sent)

    async def _report(self, *, ended: bool) -> int:
        if self._blob is None:
            return 0
        delivered = self.bytes_delivered
        if self._count is not None and delivered > self._counted:
            self._count(delivered - self._counted)
            self._counted = delivered
        return await self._ledger.report(
            self._token_id,
            self._response_id,
            blob=self._blob,
            start=self._start,
            sent=delivered if ended else self._sent,
            unread=0 if ended else self._sent - delivered,
            length=self._length,
            ended=ended,
        )
