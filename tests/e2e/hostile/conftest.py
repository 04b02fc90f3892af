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

import pytest

from tests.integration.server.conftest import Shop, open_shop
from tests.support import images
from tests.support.certificates import SERVER, CertificateFiles, TestCa
from tests.support.crisper import CrisperServer, Organization
from tests.support.honest_client import Ask, Plan
from tests.support.slow_link import SlowLink
from tests.support.upstream import Upstream
from tests.support.withstanding import DURING_S, Attack, Figures, running, withstand

NICE: Final = 19  # attackers have machines of their own: here, they must not take the server's processor
THREADS: Final = 8
CONNECTIONS_PER_S: Final = 300
DRIP_BYTES_PER_S: Final = 20_000


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

        def begin() -> AbstractContextManager[object]:
            self.sent = 0
            return start()

        pid = self.shop.server.process.pid
        self.figures.append(withstand(attack, begin, self._plan(), pid, lambda: self.sent))

    def _plan(self) -> Plan:
        shop = self.shop
        node, customer = (
            {"Authorization": f"Bearer {self.bearer}"},
            {"Salad-Api-Key": shop.organization.api_key},
        )
        group = f"/api/public/organizations/{shop.organization.name}/projects/default/containers/{shop.group}"
        change = {**customer, "Content-Type": "application/json"}
        return Plan(
            shop.server.port,
            DURING_S,
            [
                Ask(f"/v2/{shop.repository}/manifests/latest", node, 14),
                Ask(group, customer, 5),
                Ask(group, change, 1, "PATCH", '{"display_name": "honest"}'),
            ],
        )

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


@pytest.fixture(scope="session")
def certificate(workdir: Path) -> CertificateFiles:
    """Certificate of the servers with TLS."""
    return TestCa.create(workdir / "hostile-ca").issue("server", hosts=["127.0.0.1"], purposes=SERVER)
