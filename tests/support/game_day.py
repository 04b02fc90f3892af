"""A game day: clients pull and customers import while parts of the production shape are killed.

The order of the kills follows from the seed. Everything that a client does is retried, as a container engine
or a customer's program would. What is lost, doubled or wrong all the same is counted.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from random import Random
from typing import Any, Final, Protocol, TypeVar

import psutil

from tests.support import images
from tests.support.crisper import Customer, Node, Organization, PullToken, unique
from tests.support.images import Image
from tests.support.processes import wait_until
from tests.support.production import ProductionShape
from tests.support.pulling import Puller, PullFailedError
from tests.support.replicated_redis import Server
from tests.support.upstream import Upstream

REDIS, POSTGRES, OBJECTS, PROXY = "Redis primary", "PostgreSQL", "S3 server", "nginx"
PARTS: Final = ("pull-1", "pull-2", "api", "import-1", "import-2", REDIS, POSTGRES, OBJECTS, PROXY)
PERIOD_S: Final = 10
DOWN_S: Final = 2.0
RETRY_S: Final = 180.0
PAUSE_S: Final = (1.0, 4.0)  # of a client between two pulls
LAYER_BYTES: Final = 256 << 10
REDEEMED_TWICE: Final = (
    "SELECT token_id FROM events WHERE type = 'token.redeemed' GROUP BY token_id HAVING count(*) > 1"
)
T = TypeVar("T")


class Killable(Protocol):
    """A part that can be killed and started again."""

    def kill9(self) -> object: ...

    def start(self) -> None: ...


def schedule(seed: int, seconds: float) -> list[str]:
    """Return the parts to kill, one for every `PERIOD_S`."""
    random = Random(seed)
    return [random.choice(PARTS) for _ in range(int(seconds // PERIOD_S))]


@dataclass
class Result:
    """What happened.

    Attributes:
        counts: Of pulls, kills and imports; `lost`, `wrong`, `double` and `incomplete` should be 0.
        resources: For each server, at each sample: seconds since the start, resident bytes, descriptors.
    """

    counts: Counter[str] = field(default_factory=Counter)
    resources: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, problem: str = "") -> None:
        with self._lock:
            self.counts[what] += 1
            if problem:
                self.problems.append(f"{what}: {problem}")

    def summary(self) -> Mapping[str, Any]:
        """Return the counts, and the largest memory and descriptors in the first and the last third."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "resources": {name: _thirds(samples) for name, samples in self.resources.items()},
            "problems": self.problems[:20],
        }


def _thirds(samples: list[tuple[float, int, int]]) -> dict[str, list[float]]:
    third = max(1, len(samples) // 3)
    parts = samples[:third], samples[-third:]
    return {
        "MiB": [round(max(rss for _, rss, _ in part) / images.MIB, 1) for part in parts],
        "descriptors": [max(descriptors for *_, descriptors in part) for part in parts],
    }


class PatientPuller(Puller):
    """Retries failed connections and server errors for `RETRY_S`. Every other refusal is final."""

    def get(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        deadline = time.monotonic() + RETRY_S
        while True:
            try:
                return super().get(path, headers)
            except PullFailedError as error:
                if (error.status is not None and error.status < 500) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def retried(action: Callable[[], T]) -> T:
    """Repeat what fails, as a client does."""
    deadline = time.monotonic() + RETRY_S
    while True:
        try:
            return action()
        except (AssertionError, OSError, HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


class GameDay:
    """Clients, imports and kills on a running production shape."""

    def __init__(self, shape: ProductionShape, upstream: Upstream, *, seed: int, clients: int) -> None:
        self._shape, self._upstream, self._seed = shape, upstream, seed
        self._ends = threading.Event()
        self.result = Result()
        self._organization: Organization = shape.operator.create_organization()
        self._customer: Customer = shape.customer(self._organization)
        self._nodes = [shape.operator.create_node() for _ in range(clients)]
        self._pending: dict[str, Image] = {}
        self._stored: list[tuple[str, Image]] = []

    def run(self, seconds: float) -> Result:
        """Run; return when every client and every import has ended.

        Kills happen in the calling thread: a process dies with the thread that started it.
        """
        self._import(0)
        wait_until(self._settle, timeout_s=RETRY_S, what="the first import is done", interval_s=0.5)
        with ThreadPoolExecutor(len(self._nodes) + 2) as pool:
            began = time.monotonic()
            running = [pool.submit(self._pull_repeatedly, node) for node in self._nodes]
            running += [pool.submit(self._import_repeatedly), pool.submit(self._settle_repeatedly)]
            try:
                for number, part in enumerate(schedule(self._seed, seconds), start=1):
                    time.sleep(max(0.0, began + number * PERIOD_S - time.monotonic()))
                    self._sample(time.monotonic() - began)
                    self._kill(part)
                time.sleep(max(0.0, began + seconds - time.monotonic()))
            finally:
                self._ends.set()
        for each in running:
            each.result()
        with suppress(TimeoutError):
            wait_until(self._settle, timeout_s=RETRY_S, what="all imports are done", interval_s=1)
        for name in self._pending:
            state = retried(lambda: self._customer.group(name))["current_state"]  # noqa: B023 (called at once)
            self.result.count("imports lost", f"{name}: {state}")
        for token_id in self._shape.state.database.query(REDEEMED_TWICE, "crisper").split():
            self.result.count("double sessions", f"{token_id} has two redemptions in the audit trail")
        return self.result

    def _kill(self, part: str) -> None:
        state = self._shape.state
        self.result.count(f"killed {part}")
        if part == REDIS:
            self._kill_redis()
            return
        others: dict[str, Killable] = {
            POSTGRES: state.database,
            OBJECTS: state.objects,
            PROXY: self._shape.proxy,
        }
        killed = others.get(part) or self._shape.servers[part]
        killed.kill9()
        time.sleep(DOWN_S)
        killed.start()

    def _kill_redis(self) -> None:
        """Kill the primary, and start it again when the sentinels have promoted the other server."""
        ledger = self._shape.state.ledger
        servers = [ledger.primary, ledger.replica]
        primary = next(each for each in servers if _is_primary(each))
        (other,) = (each for each in servers if each is not primary)
        # Sentinels promote only a replica that follows. A kill before that is the loss of the ledger.
        wait_until(lambda: _follows(other), timeout_s=60, what="the replica follows")
        primary.process.kill9()
        wait_until(lambda: _is_primary(other), timeout_s=60, what="the replica is promoted")
        primary.start()

    def _sample(self, at_s: float) -> None:
        for name, server in self._shape.servers.items():
            first = psutil.Process(server.process.pid)
            tree = [first, *first.children(recursive=True)]
            used = sum(each.memory_info().rss for each in tree)
            descriptors = sum(each.num_fds() for each in tree)
            self.result.resources.setdefault(name, []).append((at_s, used, descriptors))

    def _import_repeatedly(self) -> None:
        number = 1
        while not self._ends.wait(PERIOD_S):
            self._import(number)
            number += 1

    def _import(self, number: int) -> None:
        image = images.build(f"acme/game-{number}", list(_layers(self._seed, number)))
        self._upstream.push(image)
        name = unique("game")
        reference = self._upstream.reference(image)

        def create() -> None:
            if self._customer.call("GET", name).status != 200:  # a response may have been lost
                self._customer.create_group(reference, name=name, **self._upstream.login)

        retried(create)
        self._pending[name] = image
        self.result.count("imports")

    def _settle_repeatedly(self) -> None:
        while not self._ends.wait(1):
            self._settle()

    def _settle(self) -> bool:
        """Note which imports have ended. Returns whether all have."""
        for name, image in list(self._pending.items()):
            state = retried(lambda: self._customer.group(name))["current_state"]  # noqa: B023 (called at once)
            if state["status"] == "pending":
                continue
            del self._pending[name]
            if state["status"] == "stopped":
                self._stored.append((name, image))
            else:
                self.result.count("imports lost", f"{name}: {state}")
        return not self._pending

    def _pull_repeatedly(self, node: Node) -> None:
        random = Random(f"{self._seed} {self._nodes.index(node)}")
        with closing(PatientPuller(self._shape.url, tls=self._shape.trust)) as puller:
            while not self._ends.wait(random.uniform(*PAUSE_S)):
                group, image = random.choice(self._stored)
                self._pull(puller, node, group, image)

    def _pull(self, puller: Puller, node: Node, group: str, image: Image) -> None:
        """Pull an image, with a new token for as long as one is refused; then complete it and try again."""
        deadline = time.monotonic() + RETRY_S
        while True:
            token = retried(lambda: self._shape.operator.mint(self._organization, group, node))
            try:
                pulled = puller.pull(token, node)
            except PullFailedError as error:
                if "other bytes" in str(error):
                    self.result.count("wrong bytes", f"{group}: {error}")
                    return
                if time.monotonic() > deadline:
                    self.result.count("incomplete pulls", f"{group}: {error}")
                    return
                self.result.count("pulls repeated with another token")
            else:
                break
        self.result.count("pulls")
        if pulled != sum(map(len, image.blobs.values())):
            self.result.count("wrong bytes", f"{group}: {pulled} bytes")
        self._try_again(puller, token, node)

    def _try_again(self, puller: Puller, token: PullToken, node: Node) -> None:
        def complete() -> None:
            answer = self._shape.operator.call("POST", f"/pull-tokens/{token.token_id}/complete")
            assert answer.status < 500

        retried(complete)
        try:
            puller.redeem(token, node)
        except PullFailedError:
            return
        self.result.count("double sessions", token.token_id)


def _layers(seed: int, number: int) -> Iterator[images.Layer]:
    random = Random(f"{seed} {number}")
    for name in ("a", "b"):
        yield images.layer([(f"data/{name}", random.randbytes(LAYER_BYTES), 0o644)])


def _is_primary(server: Server) -> bool:
    info = server.ask("INFO", "replication")
    return bool(info) and info["role"] == "master"


def _follows(server: Server) -> bool:
    info = server.ask("INFO", "replication")
    return bool(info) and info["role"] == "slave" and info["master_link_status"] == "up"
