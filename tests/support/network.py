"""A network namespace of the tests' own, joined to this machine by a pair of virtual interfaces."""

import os
from types import TracebackType
from typing import Self

from tests.support.processes import run


class Network:
    """A namespace in which only `address`, this machine's side, can be reached.

    Attributes:
        name: Of the namespace.
        address: This machine, as seen from within.
        inside: The namespace's own address.
    """

    def __init__(self) -> None:
        number = os.getpid() % (1 << 14)
        self.name = f"crisper-{number}"
        self._outer, self._inner = f"crv{number}", f"crn{number}"
        third, fourth = 64 + (number >> 6) % 128, (number & 63) * 4
        self.address, self.inside = f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"

    def __enter__(self) -> Self:
        within = ["ip", "-n", self.name]
        for argv in (
            ["ip", "netns", "add", self.name],
            [
                "ip",
                "link",
                "add",
                self._outer,
                "type",
                "veth",
                "peer",
                "name",
                self._inner,
                "netns",
                self.name,
            ],
            ["ip", "address", "add", f"{self.address}/30", "dev", self._outer],
            ["ip", "link", "set", self._outer, "up"],
            [*within, "address", "add", f"{self.inside}/30", "dev", self._inner],
            [*within, "link", "set", self._inner, "up"],
            [*within, "link", "set", "lo", "up"],
        ):
            run(argv).check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run(["ip", "link", "delete", self._outer])
        run(["ip", "netns", "delete", self.name])
