"""Many clients that read one blob slowly, or not at all, from one process."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What they ask for."""

    port: int
    path: str
    bearers: tuple[str, ...]


class SlowReaders:
    """Holds connections whose responses have begun.

    Args:
        rate_bytes_s: How much each reads a second; 0 reads the head and no more.
    """

    def __init__(self, target: Target, count: int, rate_bytes_s: int) -> None:
        self._target = target
        self._count = count
        self._rate = rate_bytes_s
        self._begun = 0
        self.received = 0
        self.lost = 0

    async def hold(self, seconds: float) -> None:
        """Connect all, and read slowly until the time is over."""
        tasks = [asyncio.create_task(self._read(n)) for n in range(self._count)]
        try:
            await asyncio.sleep(seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def begun(self) -> int:
        return self._begun

    async def _read(self, number: int) -> None:
        await asyncio.sleep(number / 200)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target.port, limit=16 << 10)
        bearer = self._target.bearers[number % len(self._target.bearers)]
        try:
            writer.write(
                f"GET {self._target.path} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {bearer}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            self._begun += head.startswith(b"HTTP/1.1 200")
            while True:
                await asyncio.sleep(1)
                if self._rate:
                    received = await reader.read(self._rate)
                    self.received += len(received)
                    if not received:
                        self.lost += 1
                        return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
