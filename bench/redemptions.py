"""Redemptions by the realm of one `crisper serve` worker, with a real Redis that syncs every write.

    python -m bench.redemptions
    python -m bench.redemptions --outstanding 1000000

Measures the maximum rate of redemptions (`--connections`, each token redeemed once), the latencies at half
of that rate and at 1,000 per second (open loop: measured from the scheduled time of a request), and the
memory of outstanding tokens in Redis and their effect on latency. Each figure is the median of several
rounds; the two rates alternate. Writes `bench/results/<date>-<commit>-redemptions.json`.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil
import uvloop
from redis.asyncio import Redis

from auth.authority import Authority
from auth.context import AuthContext
from auth.ledger import RedisTokenLedger, connect
from auth.ports import AuditEvent, Binding
from auth.ports import Node as BoundNode
from auth.records import ImageGrant
from auth.secret import Secret, hash_secret
from auth.signing_keys import LocalSigningKeys
from bench import results
from bench.fill_ledger import fill
from registry.catalog.engine.database import SystemClock
from tests.support.crisper import CrisperServer, Node
from tests.support.http import basic
from tests.support.ledgers import digest_of
from tests.support.redis_server import running_server, server_programs

REPOSITORY = "acme/factory/camera"
MINTING = 64
REST_S = 3
SETTLE_S = 0.3  # until the server has accepted all connections and finished the work of minting
STEADY_RATE = 1000  # the same on every version and machine; half of the goal
BLOBS = {digest_of(f"layer-{n}"): 30_000_000 + n for n in range(8)}
IMAGE = ImageGrant(digest_of("image"), sum(BLOBS.values()), BLOBS)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoTrail:
    """Discards events, because the benchmark does not measure minting."""

    async def record(self, event: AuditEvent) -> None:
        del event


class Bench:
    """One server, one node, and tokens for this node."""

    def __init__(self, server: CrisperServer, redis: Redis, node: Node, connections: int) -> None:
        self.connections = connections
        self.server = server
        self.node = node
        self.redis = redis
        keys = LocalSigningKeys.load(server.data_dir / "signing-keys")
        ledger = RedisTokenLedger(redis)
        context = AuthContext(ledger, NoTrail(), SystemClock(), issuer="crisper", service="crisper")
        self.authority = Authority(keys, context)

    async def mint(self, count: int) -> list[bytes]:
        """Mint `count` tokens and return a prepared request for each."""
        asked = f"service=crisper&scope={quote(f'repository:{REPOSITORY}:pull')}"
        requests: list[bytes] = []
        bound = BoundNode(self.node.node_id, Binding.SECRET, hash_secret(Secret(self.node.secret)))

        async def some(share: int) -> None:
            for _ in range(share):
                minted = await self.authority.mint(
                    organization="acme",
                    group_id="bench",
                    repository=REPOSITORY,
                    image=IMAGE,
                    node=bound,
                    ttl_s=900,
                )
                password = basic(self.node.node_id, f"{minted.token.reveal()}~{self.node.secret}")
                head = f"GET /token?{asked} HTTP/1.1\r\nHost: {self.server.host}\r\nAuthorization: {password}"
                requests.append(f"{head}\r\n\r\n".encode())

        shares = [count // MINTING + (n < count % MINTING) for n in range(MINTING)]
        await asyncio.gather(*map(some, shares))
        return requests

    async def flat_out(self, requests: Sequence[bytes]) -> tuple[float, float]:
        """Return redemptions per second, and the server's CPU seconds per 1,000 redemptions."""
        process = psutil.Process(self.server.process.pid)
        async with self._connected() as connections:
            cpu, began = sum(process.cpu_times()[:2]), time.perf_counter()
            await _send(connections, requests, rate=None)
            seconds = time.perf_counter() - began
            spent = sum(process.cpu_times()[:2]) - cpu
        return len(requests) / seconds, spent / len(requests) * 1000

    async def paced(self, requests: Sequence[bytes], rate: float) -> list[float]:
        """Return the latency in seconds of every redemption at a constant rate."""
        async with self._connected() as connections:
            return await _send(connections, requests, rate=rate)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Sequence[Connection]]:
        """Open the connections, and disable this process's garbage collection while they are used.

        A collection takes 70 ms, during which the process sends and reads nothing.
        """
        connections = [
            await asyncio.open_connection("127.0.0.1", self.server.port) for _ in range(self.connections)
        ]
        gc.collect()
        gc.disable()
        await asyncio.sleep(SETTLE_S)
        try:
            yield connections
        finally:
            gc.enable()
            for _, writer in connections:
                writer.close()


async def _send(
    connections: Sequence[Connection], requests: Sequence[bytes], *, rate: float | None
) -> list[float]:
    waiting = iter(list(enumerate(requests)))
    latencies: list[float] = []
    began = time.perf_counter()

    async def sender(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, request in waiting:
            due = began + number / rate if rate else time.perf_counter()
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(sender(*connection) for connection in connections))
    return latencies


def main() -> None:
    options = _options()
    program = next(iter(server_programs().values()))
    with TemporaryDirectory(prefix="crisper-bench-") as folder, running_server(program) as redis:
        url = redis.url
        server = CrisperServer(Path(folder) / "server", env={"CRISPER_REDIS_URL": url})
        with server:
            found = uvloop.run(measure(server, url, options))
    if not options.no_write:
        found = {"tokens": options.tokens, "connections": options.connections, **found}
        path = results.write("redemptions", "redemptions through the realm of one worker", found)
        print(f"written to {path.relative_to(results.ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=6000, help="tokens in each round")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--outstanding", type=int, default=0, help="additional outstanding tokens")
    parser.add_argument("--no-write", action="store_true")
    return parser.parse_args()


async def measure(server: CrisperServer, url: str, options: argparse.Namespace) -> dict[str, object]:
    async with _bench(server, url, options.connections) as bench:
        rates, costs = [], []
        for _ in range(options.rounds):
            rate, cost = await bench.flat_out(await bench.mint(options.tokens))
            rates.append(rate)
            costs.append(cost)
            print(f"flat out   {rate:8.0f} /s   {cost:6.2f} CPU ms each")
        half = statistics.median(rates[1:] or rates) / 2  # the first round is a warm-up
        found: dict[str, object] = {
            "redemptions_per_s": round(2 * half),
            "rates": [round(rate) for rate in rates],
            "cpu_ms_each": round(statistics.median(costs), 3),
            "half_load_rate": round(half),
            **await _steadily(bench, {"half_load": half, f"at_{STEADY_RATE}": STEADY_RATE}, options),
        }
        if options.outstanding:
            found |= await _weigh(bench, url, half, options)
    for name, value in found.items():
        print(f"{name:<32}{value}")
    return found


async def _weigh(bench: Bench, url: str, rate: float, options: argparse.Namespace) -> dict[str, object]:
    # One million keys beside the redeemed ones: the hash table grows after 2^20, which is not measured.
    await bench.redis.flushdb()
    before, keys = await bench.redis.info("memory"), await bench.redis.dbsize()
    began = time.perf_counter()
    await asyncio.to_thread(fill, url, IMAGE, options.outstanding)
    seconds = time.perf_counter() - began
    await _at_rest(bench.redis)
    after, made = await bench.redis.info("memory"), await bench.redis.dbsize() - keys
    return {
        "outstanding": options.outstanding,
        "keys": made,
        "bytes_each": round((after["used_memory"] - before["used_memory"]) / options.outstanding),
        "filled_per_s": round(options.outstanding / seconds),
        **await _steadily(bench, {"outstanding": rate}, options),
    }


async def _at_rest(redis: Redis) -> None:
    """Wait until Redis has rewritten its append-only file after the filling, which takes a core."""
    quiet = 0
    while quiet < REST_S:
        state = await redis.info("persistence")
        busy = (
            state["aof_rewrite_in_progress"]
            or state["aof_rewrite_scheduled"]
            or state["rdb_bgsave_in_progress"]
        )
        quiet = 0 if busy else quiet + 1
        await asyncio.sleep(1)


async def _steadily(
    bench: Bench, rates: Mapping[str, float], options: argparse.Namespace
) -> dict[str, object]:
    """Redeem at alternating rates; return the medians of the quantiles in ms, and each round's maximum."""
    cuts: dict[str, list[list[float]]] = {name: [] for name in rates}
    for _ in range(options.rounds):
        for name, rate in rates.items():
            latencies = await bench.paced(await bench.mint(options.tokens // 3), rate)
            cuts[name].append([1000 * cut for cut in statistics.quantiles(latencies, n=100)])
    found: dict[str, object] = {}
    for name, rounds in cuts.items():
        for p in (50, 90, 99):
            found[f"{name}_p{p}_ms"] = round(statistics.median(each[p - 1] for each in rounds), 2)
        found[f"{name}_p99s_ms"] = [round(each[98], 1) for each in rounds]
    return found


@asynccontextmanager
async def _bench(server: CrisperServer, url: str, connections: int) -> AsyncIterator[Bench]:
    redis = connect(url)
    assert isinstance(redis, Redis)
    try:
        yield Bench(server, redis, server.operator.create_node(), connections)
    finally:
        await redis.aclose()


if __name__ == "__main__":
    main()
