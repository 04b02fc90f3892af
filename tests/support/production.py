"""The production shape of deploy/compose.yaml as processes on loopback, with the shipped proxy configuration.

nginx with TLS and client certificates before two pull replicas and an api server; import workers; a Redis
primary with a replica and sentinels; PostgreSQL; an S3 server. All servers share what `crisper init` drew.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.certificates import CertificateFiles, TestCa
from tests.support.crisper import CRISPER, CrisperServer, Customer, Operator, Organization
from tests.support.object_stores import S3_ENVIRONMENT, S3Server, s3_server
from tests.support.portal import PortalVisitor
from tests.support.postgres_server import PostgresServer
from tests.support.processes import Process, free_port, listening, run
from tests.support.replicated_redis import Sentinels, running

SHIPPED = Path(__file__).parents[2] / "deploy" / "proxy"
HOST = "registry.example.com"
KEYS = "keys"
LEASE_S = 3.0
START_S = 300  # five servers at once, on a machine that may be busy
ROLES = {
    "pull-1": "pull,token",
    "pull-2": "pull,token",
    "api": "api",
    "import-1": "import",
    "import-2": "import",
}


class ProductionShape:
    """Everything, running.

    Attributes:
        url: Of the proxy, for nodes and customers. Operators connect to the api server.
        servers: By the names of `ROLES`; each can be killed.
        state: What they keep their state in.
        proxy: nginx before them.
        ca: Who signed the proxy's certificate.
        trust: The same, for clients.
    """

    def __init__(
        self,
        proxy: "Nginx",
        servers: dict[str, CrisperServer],
        state: "State",
        tls: CertificateFiles,
        key: str,
    ) -> None:
        self.url = f"https://127.0.0.1:{proxy.port}"
        self.proxy, self.servers, self.state = proxy, servers, state
        self.ca = tls.ca
        self.trust = tls.trusting()
        self.operator = Operator(servers["api"].url, key, self.trust)

    @property
    def ledger(self) -> Sentinels:
        return self.state.ledger

    def visitor(self, key: str) -> PortalVisitor:
        """Sign in to the portal with a key."""
        return PortalVisitor.signed_in(self.url, key, self.trust)

    def customer(self, organization: Organization) -> Customer:
        return Customer(self.url, organization, self.trust)


@dataclass(frozen=True)
class State:
    """The servers outside Crisper. Each can be killed and started again."""

    ledger: Sentinels
    database: PostgresServer
    objects: S3Server


class Nginx:
    """The proxy; it can be killed and started again.

    Args:
        config: Its main file.
    """

    def __init__(self, config: Path, port: int) -> None:
        self._config, self.port = config, port
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        argv = ["nginx", "-p", str(self._config.parent), "-c", str(self._config)]
        log = self._config.with_name("nginx.log")
        self._process = Process(argv, log, ready=lambda: listening(self.port))

    def kill9(self) -> None:
        """Kill the workers too: they would go on without the first process."""
        workers = psutil.Process(self.process.pid).children()
        self.process.kill9()
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, timeout=20)

    def stop(self) -> None:
        if self._process is not None and self._process.running:
            self._process.stop()


@contextmanager
def production(
    folder: Path, *, insecure_registries: Sequence[str], response_bytes_s: int
) -> Iterator[ProductionShape]:
    """Run it.

    Args:
        folder: Of the test's own; nginx's user has to reach it.
        insecure_registries: The import workers' upstreams. Production refuses any in the clear: the workers
            run without CRISPER_ENV=production for that alone.
        response_bytes_s: The proxy sends each response no faster, so that a pull can be met in its middle.
    """
    keys, port = folder / KEYS, free_port()
    run([str(CRISPER), "init", "--data-dir", str(keys)]).check()
    servers_ca, proxies_ca = TestCa.create(folder / "servers"), TestCa.create(folder / "proxies")
    tls = servers_ca.issue("server", hosts=["127.0.0.1", HOST], purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
    with ExitStack() as stack:
        ledger = stack.enter_context(running(Sentinels))
        database = PostgresServer.create(folder / "postgres")
        stack.callback(database.stop)
        objects = stack.enter_context(_objects(folder / "s3"))
        environment = {
            "CRISPER_PUBLIC_URL": f"https://127.0.0.1:{port}",
            "CRISPER_REDIS_URL": ledger.url,
            "CRISPER_REDIS_MIN_REPLICAS": "1",
            "CRISPER_DATABASE_URL": database.url,
            "CRISPER_STORAGE_URL": objects.url("blobs"),
            "CRISPER_PROXY_CA": str(proxies_ca.path),
            "CRISPER_LEASE_S": str(LEASE_S),
            "CRISPER_DRAIN_S": "2",
            **S3_ENVIRONMENT,
        }
        servers = {
            name: _server(folder / name, roles, environment, tls, insecure_registries)
            for name, roles in ROLES.items()
        }
        # A process that a test starts dies with the thread that started it: so these stay as long.
        starting = stack.enter_context(ThreadPoolExecutor(len(servers)))
        for server in servers.values():
            stack.callback(_end, server)
        list(starting.map(partial(CrisperServer.start, timeout_s=START_S), servers.values()))
        main = folder / "nginx.conf"
        main.write_text(
            f"worker_processes 1; daemon off; pid {folder / 'nginx.pid'};\n"
            f"error_log {folder / 'nginx-error.log'}; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {folder / 'body'};\n"
            f"proxy_temp_path {folder / 'temp'}; limit_rate {response_bytes_s};\n"
            f"{_nginx(folder, port, servers, tls, proxies_ca.issue('nginx'))}\n}}\n"
        )
        proxy = Nginx(main, port)
        stack.callback(proxy.stop)
        proxy.start()
        key = (keys / "operator.key").read_text().strip()
        yield ProductionShape(proxy, servers, State(ledger, database, objects), tls, key)


@contextmanager
def _objects(folder: Path) -> Iterator[S3Server]:
    folder.mkdir()
    with s3_server(folder) as server:
        yield server


def _server(
    folder: Path,
    roles: str,
    environment: dict[str, str],
    tls: CertificateFiles,
    insecure_registries: Sequence[str],
) -> CrisperServer:
    imports = roles == "import"
    own = {
        "CRISPER_ROLES": roles,
        "CRISPER_ADMIN_ADDRESS": "127.0.0.1:0",  # all servers are on one machine
        "CRISPER_KEYRING": str(
            folder.parent / KEYS / "keyring.json"
        ),  # one for all: it grows with organizations
        "CRISPER_ENV": "development" if imports else "production",
    }
    server = CrisperServer(
        folder,
        insecure_registries=insecure_registries if imports else (),
        env=environment | own,
        tls=tls,
    )
    shutil.copytree(folder.parent / KEYS, server.data_dir)
    return server


def _end(server: CrisperServer) -> None:
    if server.started and server.process.running:
        server.stop()


def _nginx(
    folder: Path, port: int, servers: dict[str, CrisperServer], tls: CertificateFiles, proxy: CertificateFiles
) -> str:
    """Return the shipped configuration with our own files and addresses in it."""
    config = (SHIPPED / "nginx-replicas.conf").read_text()
    files = {
        "client-cert.conf": SHIPPED / "nginx-client-cert.conf",
        "registry.crt": tls.certificate,
        "registry.key": tls.key,
        "node-ca/certificate.pem": folder / KEYS / "node-ca" / "certificate.pem",
        "proxy.crt": proxy.certificate,
        "proxy.key": proxy.key,
        "servers-ca.crt": tls.ca,
    }
    for name, path in files.items():
        config = config.replace(f"/etc/nginx/crisper/{name};", f"{path};")
    for name in ("pull-1", "pull-2", "api"):
        config = config.replace(f"server {name}:5000", f"server 127.0.0.1:{servers[name].port}")
    return config.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
