"""Ledger URLs (docs/tokens.md, "Replicated ledgers")."""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, unquote, urlsplit

_SENTINEL_PORT, _CLUSTER_PORT = 26379, 6379
_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password"}


class Topology(StrEnum):
    """Kind of Redis deployment: a single server, Sentinel or Cluster."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class LedgerAddressError(ValueError):
    """An invalid ledger URL. The message omits the URL, which may contain a password."""


@dataclass(frozen=True, slots=True)
class LedgerAddress:
    """Address of a ledger.

    Attributes:
        url: The URL, for a single server; else empty.
        hosts: Hosts and ports of sentinels or cluster nodes.
        service: Service name of the primary in Sentinel.
        tls: Whether all connections use TLS.
        options: TLS files, and the credentials for the sentinels.
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
        """Parse a ledger URL.

        Accepts `unix:///path`, `redis://` and `rediss://` in the form of the Redis client,
        `redis+sentinel://[user:password@]host[:port],.../service-name[?options]` and
        `redis+cluster://[user:password@]host[:port],...[?options]`; `rediss+...` for TLS.

        Raises:
            LedgerAddressError: The URL has another form.
        """
        scheme, _, rest = url.partition("://")
        base, _, kind = scheme.partition("+")
        if not kind and base in {"unix", "redis", "rediss"} and rest:
            return cls(Topology.SINGLE, url=url)
        if base not in {"redis", "rediss"} or kind not in {Topology.SENTINEL, Topology.CLUSTER}:
            raise LedgerAddressError(
                "a ledger URL must start with unix://, redis[s]://, redis[s]+sentinel:// or redis[s]+cluster://"
            )
        topology = Topology(kind)
        parts = urlsplit(f"//{rest}")
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        service = parts.path.strip("/")
        if (topology is Topology.SENTINEL) is not bool(service):
            raise LedgerAddressError(
                "a Sentinel URL needs a /service-name, and a cluster URL must have no path"
            )
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
        raise LedgerAddressError("write the ledger's hosts as host[:port], separated by commas") from None
    hosts = tuple((host, port or default_port) for host, port in found if host)
    if len(hosts) != len(found):
        raise LedgerAddressError("write the ledger's hosts as host[:port], separated by commas")
    return hosts


def _options(query: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    if unknown := options.keys() - _OPTIONS:
        raise LedgerAddressError(f"a ledger URL has no option {', '.join(sorted(unknown))}")
    return options
