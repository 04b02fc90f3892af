"""One server, an honest client of it, and what a flood or a held connection does to that client."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.crisper import CrisperServer, Organization
from tests.support.honest_client import Ask, Plan, percentile
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream

MEMORY_BYTES: Final = 512 << 20
FACTOR: Final = 3
NOISE_S: Final = 0.05  # of timers and of a busy machine
ROUNDS: Final = 3  # another load of the machine can spoil a round; an attack that works spoils each
BEFORE_S: Final = 1.5
DURING_S: Final = 2.5
WARM_UP_S: Final = 0.5
NICE: Final = 19  # attackers have machines of their own: here, they must not take the server's processor
THREADS: Final = 8
CONNECTIONS_PER_S: Final = 300
DRIP_BYTES_PER_S: Final = 20_000

Attack = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Figures:
    """The honest client's p99 latency without and with an attack, and the memory of the largest process."""

    attack: str
    requests: int
    before_s: float
    during_s: float
    memory_bytes: int

    @property
    def is_within(self) -> bool:
        return self.during_s <= FACTOR * self.before_s + NOISE_S and self.memory_bytes <= MEMORY_BYTES

    def __str__(self) -> str:
        return (
            f"{self.attack:<34} {self.requests:>8} {self.before_s * 1000:>9.1f} {self.during_s * 1000:>9.1f} "
            f"{self.memory_bytes >> 20:>6}"
        )


@dataclass
class Site:
    """A server under attack, and its honest customer with a node whose session is open.

    Attributes:
        link: A slow way to the upstream.
        sent: Requests or connections of the attack.
    """

    shop: Shop
    bearer: str
    upstream: Upstream
    link: SlowLink
    figures: list[Figures] = field(default_factory=list)
    sent: int = 0

    @property
    def port(self) -> int:
        return self.shop.server.port

    def tenant(self) -> Organization:
        """Create a tenant who attacks."""
        return self.shop.server.operator.create_organization()

    def withstands(self, attack: str, start: Attack) -> None:
        """Check that the honest client is served during an attack nearly as well as before it."""
        for _ in range(ROUNDS):
            found = self._measure(attack, start)
            print(f"\n{found}", end="")  # noqa: T201 (figures, shown with -s)
            if found.is_within:
                break
        self.figures.append(found)
        assert found.is_within, f"p99 and memory exceed the limit: {found}"

    def _measure(self, attack: str, start: Attack) -> Figures:
        before = self._plan(BEFORE_S).run()
        self.sent = 0
        with self._memory() as memory, start():
            time.sleep(WARM_UP_S)
            during = self._plan(DURING_S).run()
            sent = self.sent
        return Figures(attack, sent, percentile(before, 0.99), percentile(during, 0.99), memory())

    def _plan(self, seconds: float) -> Plan:
        shop = self.shop
        node, customer = (
            {"Authorization": f"Bearer {self.bearer}"},
            {"Salad-Api-Key": shop.organization.api_key},
        )
        group = f"/api/public/organizations/{shop.organization.name}/projects/default/containers/{shop.group}"
        change = {**customer, "Content-Type": "application/json"}
        return Plan(
            shop.server.port,
            seconds,
            [
                Ask(f"/v2/{shop.repository}/manifests/latest", node, 14),
                Ask(group, customer, 5),
                Ask(group, change, 1, "PATCH", '{"display_name": "honest"}'),
            ],
        )

    @contextlib.contextmanager
    def _memory(self) -> Iterator[Callable[[], int]]:
        """Sample the resident memory of the server's largest process; give the maximum."""
        parent, seen, ended = psutil.Process(self.shop.server.process.pid), [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                for process in [parent, *parent.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        seen[0] = max(seen[0], process.memory_info().rss)

        with running(watch, ended):
            yield lambda: seen[0]

    def flood(self, step: Callable[[int], object], threads: int = THREADS) -> AbstractContextManager[object]:
        """Call `step` with a number, in each of some threads, until the attack is over."""
        ended, stack = threading.Event(), ExitStack()

        def loop(first: int) -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            number = first
            while not ended.is_set():
                with contextlib.suppress(OSError, HTTPException):
                    step(number)
                    self.sent += 1
                number += threads

        for first in range(threads):
            stack.enter_context(running(partial(loop, first), ended))
        return stack

    @contextlib.contextmanager
    def held(self, count: int, start: bytes, drip: bytes = b"") -> Iterator[None]:
        """Hold connections that send `start`, then `drip` once a second, and read nothing."""
        with ExitStack() as stack:
            clients = []
            for _ in range(count):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(5)
                client.connect(("127.0.0.1", self.port))
                client.sendall(start)
                self.sent += 1
                clients.append(client)
                time.sleep(1 / CONNECTIONS_PER_S)
            ended = threading.Event()

            def dribble() -> None:
                while drip and not ended.wait(1):
                    for client in clients:
                        with contextlib.suppress(OSError):
                            client.send(drip)

            with running(dribble, ended):
                yield

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        """Send one request; return the status. Underscores in header names are hyphens."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


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


@pytest.fixture(scope="session")
def site(workdir: Path, upstream: Upstream) -> Iterator[Site]:
    """One process with the default limits."""
    with SlowLink(upstream.port, DRIP_BYTES_PER_S) as link:
        registries = [upstream.host, link.host]
        with CrisperServer(workdir / "hostile", insecure_registries=registries) as server:
            shop = open_shop(server, upstream, images.random_layers())
            site = Site(shop, shop.bearer(), upstream, link)
            yield site
    head = f"{'attack':<34} {'requests':>8} {'p99 (ms)':>9} {'attacked':>9} {'MiB':>6}"
    print("\n" + "\n".join([head, *map(str, site.figures)]))  # noqa: T201
