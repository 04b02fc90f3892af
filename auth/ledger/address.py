"""Where a ledger is, read from one URL (docs/tokens.md, "Replicated ledgers")."""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, unquote, urlsplit

_SENTINEL_PORT, _CLUSTER_PORT = 26379, 6379
_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password"}


class Topology(StrEnum):
    """How many servers stand behind a ledger, and who says which of them is the primary."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class LedgerAddressError(ValueError):
    """A URL that names no ledger; the message never repeats it, since it may hold a password."""


@dataclass(frozen=True, slots=True)
class LedgerAddress:
    """A ledger's address.

    Attributes:
        url: As given, for a single server; else empty.
        hosts: Sentinels or cluster nodes, as host and port.
        service: The name that the sentinels know the primary by.
        tls: Whether every connection is TLS.
        options: Files of TLS, and the sentinels' own credentials.
    """

    topology: Topology
    url: str = field(default="", repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> "LedgerAddress":
        """Read a URL.

        `unix:///path`, `redis://`, `rediss://` as the Redis client reads them, and
        `redis+sentinel://[user:password@]host[:port],.../service-name[?options]` and
        `redis+cluster://[user:password@]host[:port],...[?options]`; `rediss+...` for TLS.

        Raises:
            LedgerAddressError: It is none of these.
        """
        scheme, _, rest = url.partition("://")
        base, _, kind = scheme.partition("+")
        if not kind and base in {"unix", "redis", "rediss"} and rest:
            return cls(Topology.SINGLE, url=url)
        if base not in {"redis", "rediss"} or kind not in {Topology.SENTINEL, Topology.CLUSTER}:
            raise LedgerAddressError("a ledger is unix://, redis[s]://, redis[s]+sentinel:// or +cluster://")
        topology = Topology(kind)
        parts = urlsplit(f"//{rest}")
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        service = parts.path.strip("/")
        if (topology is Topology.SENTINEL) is not bool(service):
            raise LedgerAddressError("sentinels take a /service-name, and a cluster takes no path")
        return cls(
            topology,
            hosts=_hosts(hosts, _SENTINEL_PORT if service else _CLUSTER_PORT),
            service=service,
            tls=base == "rediss",
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=_options(parts.query),
        )


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    try:
        found = [
            (split.hostname, split.port) for split in (urlsplit(f"//{part}") for part in text.split(","))
        ]
    except ValueError:
        raise LedgerAddressError("a ledger's hosts are host[:port], by comma") from None
    hosts = tuple((host, port or default_port) for host, port in found if host)
    if len(hosts) != len(found):
        raise LedgerAddressError("a ledger's hosts are host[:port], by comma")
    return hosts


def _options(query: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    if unknown := options.keys() - _OPTIONS:
        raise LedgerAddressError(f"a ledger takes no option {', '.join(sorted(unknown))}")
    return options
