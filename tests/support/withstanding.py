"""What an attack on a server does to an honest client beside it, and to the server's memory."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

import psutil

from tests.support.honest_client import Plan, percentile

MEMORY_BYTES: Final = 512 << 20
FACTOR: Final = 3
NOISE_S: Final = 0.05  # of timers and of a busy machine
ROUNDS: Final = 3  # another load of the machine can spoil a round; an attack that works spoils each
BEFORE_S: Final = 1.5
DURING_S: Final = 2.5
WARM_UP_S: Final = 0.5

Attack = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Figures:
    """The honest client's p99 latency without and with an attack, and the memory of the largest process.

    Attributes:
        sent: Requests or connections of the attack.
    """

    attack: str
    sent: int
    before_s: float
    during_s: float
    memory_bytes: int

    @property
    def is_within(self) -> bool:
        return self.during_s <= FACTOR * self.before_s + NOISE_S and self.memory_bytes <= MEMORY_BYTES

    def __str__(self) -> str:
        return (
            f"{self.attack:<34} {self.sent:>8} {self.before_s * 1000:>9.1f} {self.during_s * 1000:>9.1f} "
            f"{self.memory_bytes >> 20:>6}"
        )


def withstand(attack: str, start: Attack, plan: Plan, pid: int, sent: Callable[[], int]) -> Figures:
    """Check that an honest client is served during an attack nearly as well as before it.

    Args:
        plan: What the honest client asks for during the attack, and for how long.
        pid: The server's process.
        sent: Returns the number of the attack's requests or connections.
    """
    for _ in range(ROUNDS):
        before = replace(plan, seconds=BEFORE_S).run()
        with _memory(pid) as memory, start():
            time.sleep(WARM_UP_S)
            during = plan.run()
            count = sent()
        found = Figures(attack, count, percentile(before, 0.99), percentile(during, 0.99), memory())
        print(f"\n{found}", end="")  # noqa: T201 (figures, shown with -s)
        if found.is_within:
            break
    assert found.is_within, f"p99 and memory exceed the limit: {found}"
    return found


@contextlib.contextmanager
def _memory(pid: int) -> Iterator[Callable[[], int]]:
    """Sample the resident memory of the largest process of a server; give the maximum."""
    parent, seen, ended = psutil.Process(pid), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for process in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    seen[0] = max(seen[0], process.memory_info().rss)

    with running(watch, ended):
        yield lambda: seen[0]


@contextlib.contextmanager
def running(work: Callable[[], object], ended: threading.Event) -> Iterator[None]:
    """Run `work` in a thread, set `ended` at the end, and wait for it."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
