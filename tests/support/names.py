"""A resolver of the tests' own: names that lead where a test says, and elsewhere the next time."""

import socket
from collections import deque
from collections.abc import Mapping, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """Answers from a list for each name, one address a question; the last one stays."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = {name: deque(addresses) for name, addresses in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self._names.get(host)
        if addresses is None:
            raise OSError(None, "no such name")
        address = addresses.popleft() if len(addresses) > 1 else addresses[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=0
            )
        ]

    async def close(self) -> None:
        """Have nothing to close."""
