"""Redis in replicated shapes, as real processes on loopback: behind sentinels, and as a cluster."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from tests.support.processes import Process, free_port, listening, wait_until
from tests.support.relay import Relay

SERVICE = "ledger"
_SLOTS = 16384


class Cable(Relay):
    """A TCP connection between programs that can be cut and mended."""

    def __init__(self, target_port: int) -> None:
        self._cut = threading.Event()
        super().__init__(target_port)

    def admits(self) -> bool:
        return not self._cut.is_set()

    def cut(self) -> None:
        """Break what is connected, and hang up on what connects from now on."""
        self._cut.set()
        self.cut_all()

    def mend(self) -> None:
        self._cut.clear()


class Server:
    """One `redis-server` on TCP, AOF on every write."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._argv = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"),
            *("--repl-timeout", "5", "--repl-ping-replica-period", "1", *options),
        ]
        self.start()

    def announce(self, port: int) -> None:
        """Have replicas and sentinels reach it at another port, also after a restart."""
        self._argv += ["--replica-announce-port", str(port)]
        self.ask("CONFIG", "SET", "replica-announce-port", str(port))

    def start(self) -> None:
        self.process = Process(self._argv, self._folder / "redis.log", ready=lambda: self.ask("PING") is True)

    def ask(self, *command: str) -> Any:  # noqa: ANN401 (whatever the command answers)
        """Send one command; None when there is no answer."""
        with contextlib.suppress(RedisError), Redis(port=self.port, socket_timeout=2) as client:
            return client.execute_command(*command)
        return None


class Sentinels:
    """A primary and a replica, watched by three sentinels.

    The replica and the sentinels reach the primary through `cable`; who knows `primary.port` reaches it
    still when that is cut: a client on the wrong side of a partition.
    """

    def __init__(self, folder: Path) -> None:
        folders = [folder / name for name in ("primary", "replica", "s0", "s1", "s2")]
        for each in folders:
            each.mkdir()
        self.primary = Server(folders[0])
        self.cable = Cable(self.primary.port)
        self.primary.announce(self.cable.port)
        self.replica = Server(folders[1], "--replicaof", "127.0.0.1", str(self.cable.port))
        wait_until(lambda: self.followers() == 1, timeout_s=15, what="the replica follows")
        self.sentinels = [self._sentinel(each) for each in folders[2:]]
        wait_until(self._know_each_other, timeout_s=20, what="the sentinels know each other and the replica")

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port, _ in self.sentinels)}/{SERVICE}"

    @property
    def wrong_side(self) -> str:
        return f"redis://127.0.0.1:{self.primary.port}"

    def followers(self) -> int:
        info = self.primary.ask("INFO", "replication")
        return int(info["connected_slaves"]) if info else 0

    def replica_is_primary(self) -> bool:
        info = self.replica.ask("INFO", "replication")
        return bool(info) and info["role"] == "master"

    def stop(self) -> None:
        for _, process in self.sentinels:
            process.kill9()
        self.replica.process.kill9()
        self.primary.process.kill9()
        self.cable.close()

    def _sentinel(self, folder: Path) -> tuple[int, Process]:
        port, conf = free_port(), folder / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.cable.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 600\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        argv = ["redis-server", str(conf), "--sentinel"]
        return port, Process(argv, folder / "log", ready=lambda: listening(port))

    def _know_each_other(self) -> bool:
        for port, _ in self.sentinels:
            with Redis(port=port, socket_timeout=2) as client:
                state: Any = client.sentinel_master(SERVICE)
                if state["num-other-sentinels"] != 2 or state["num-slaves"] != 1:
                    return False
        return True


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[Server] = []
        buses: list[int] = []
        for number in range(3):
            own = folder / f"n{number}"
            own.mkdir()
            buses.append(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]))
            self.nodes.append(Server(own, *options, "--cluster-node-timeout", "1500"))
        for number, node in enumerate(self.nodes):
            first, last = (_SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node, bus in zip(self.nodes[1:], buses[1:], strict=True):
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        wait_until(self.well, timeout_s=20, what="the cluster is well")

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def well(self) -> bool:
        for node in self.nodes:
            info = node.ask("CLUSTER", "INFO") or b""
            if b"cluster_state:ok" not in info or b"cluster_known_nodes:3" not in info:
                return False
        return True

    def stop(self) -> None:
        for node in self.nodes:
            node.process.kill9()


Shape = TypeVar("Shape", Sentinels, Cluster)


@contextlib.contextmanager
def running(kind: Callable[[Path], Shape]) -> Iterator[Shape]:
    """Run one of the shapes in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    shape = kind(folder)
    try:
        yield shape
    finally:
        shape.stop()
        shutil.rmtree(folder, ignore_errors=True)
