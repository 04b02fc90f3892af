"""The figures of the benchmarks' results, each with its goal.

Every ratio is Crisper's time, or CPU, divided by the peer's: lower is better. Goals are upper limits in the
same unit, unless a figure says otherwise.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Result = Mapping[str, Any]
PEERS: Final = {"distribution": "Distribution", "nginx": "nginx sendfile"}
PHASES: Final = {"idle": "idle", "import": "import", "serve": "pull"}
# By transport, peer, and whether there are many clients: the longest time, as a share of the peer's.
BLOB_GOALS: Final = {
    ("plain", "distribution", False): 1.0,
    ("plain", "distribution", True): 1.0,
    ("plain", "nginx", False): 1.11,
    ("plain", "nginx", True): 1.11,
    ("tls", "distribution", False): 0.91,
    ("tls", "distribution", True): 0.71,
    ("tls", "nginx", False): 1.05,
    ("tls", "nginx", True): 1.05,
}


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Args:
        name: What was measured.
        value: The figure itself.
        goal: What it may be at most, or at least where `higher_is_better`. None has no goal.
        note: The absolute values behind a ratio.
    """

    name: str
    value: float
    goal: float | None
    unit: str = ""
    note: str = ""
    higher_is_better: bool = False

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        return self.value < self.goal if self.higher_is_better else self.value > self.goal

    def row(self) -> str:
        """Return the figure as a row of a Markdown table."""
        measured = f"{self.value:,}{self.unit}" + (f" ({self.note})" if self.note else "")
        if self.goal is None:
            return f"| {self.name} | {measured} | | |"
        goal = f"{'>=' if self.higher_is_better else '<='} {self.goal:,}{self.unit}"
        return f"| {self.name} | {measured} | {goal} | {'**missed**' if self.missed else 'met'} |"


def pull(result: Result) -> Iterator[Figure]:
    for row in result["rows"]:
        clients = row["clients"]
        among = f"{clients} client{'s' * (clients > 1)}, {'TLS' if row['transport'] == 'tls' else 'no TLS'}"
        ours = row["medians"]["crisper"]
        for peer, name in PEERS.items():
            if peer not in row["ours_to"]:
                continue
            ratio = round(row["medians"][peer]["gb_per_s"] / ours["gb_per_s"], 2)
            note = f"{ours['gb_per_s']} GB/s; CPU ratio {row['ours_to'][peer]['cpu']}"
            goal = BLOB_GOALS[row["transport"], peer, clients > 1]
            yield Figure(f"blob, {among}: time, Crisper / {name}", ratio, goal, note=note)
            if to := row.get("encrypted_to", {}).get(peer):
                ciphertext = row["medians"]["encrypted"]
                ratio = round(row["medians"][peer]["gb_per_s"] / ciphertext["gb_per_s"], 2)
                note = f"{ciphertext['gb_per_s']} GB/s; CPU ratio {to['cpu']}"
                yield Figure(f"encrypted blob, {among}: time, Crisper / {name}", ratio, 1.11, note=note)
        if clients > 1:
            fairness = round(1 / ours["mean_to_slowest_client"], 2)
            yield Figure(f"blob, {among}: time, slowest client / mean", fairness, 2.0)


def manifests(result: Result) -> Iterator[Figure]:
    for row in result["rows"]:
        rates, workers = row["requests_per_s"], row["workers"]
        among = f"{workers} worker{'s' * (workers > 1)}"
        name = f"manifest, {among}: time, Crisper / Distribution with token authorization"
        ratio = round(rates["distribution"] / rates["crisper"], 2)
        yield Figure(name, ratio, 0.29, note=f"{rates['crisper']:,} per second")


def whole_pull(result: Result) -> Iterator[Figure]:
    for row in result["rows"]:
        size_mb = row.get("image_bytes", result["image_bytes"]) / 1e6
        zstd = row["layers"] == "zstd"
        encrypted = ", encrypted" * (row.get("encryption", "none") != "none")
        image = f"{size_mb:.0f} MB{' in zstd' if zstd else ''}{encrypted}"
        name = f"whole pull, {row['client']}, {image}: time, Crisper / Distribution"
        yield Figure(name, row["ours_to_distribution"], 0.7 if zstd else 1.0, note=f"{row['crisper_s']} s")


def imports(result: Result) -> Iterator[Figure]:
    for row in result.get("rows", [result]):
        name = f"import{' with compression' if row.get('compress') else ''}: time, Crisper / `skopeo copy`"
        yield Figure(name, row["ours_to_skopeo"], 0.6, note=f"{row['import_s']} s")


def memory(result: Result) -> Iterator[Figure]:
    image = result["image"]
    layers = f"{image['layers']} layer{'s' * (image['layers'] != 1)}"
    for name, phase in result["phases"].items():
        size = f" of {image['size_bytes'] / 1e9:.0f} GB in {layers}"
        what = f"memory of the server, {PHASES[name]}{size if name != 'idle' else ''}"
        peak = round(phase["peak_rss_mib"]["server"])
        yield Figure(what, peak, result["limit_mib"], " MiB", f"{phase['duration_s']:.0f} s")


def slow(result: Result) -> Iterator[Figure]:
    name = f"memory of the server with {result['clients']:,} slow clients"
    yield Figure(name, round(result["peak_rss_mib"]), 256, " MiB")


def offload(result: Result) -> Iterator[Figure]:
    senders = {"nginx": "nginx's own file, TLS", "s3": "the S3 server alone"}
    for row in result["rows"]:
        among = f"encrypted blob by {row['mode']}, {row['clients']} client{'s' * (row['clients'] > 1)}"
        note = f"{row['ours_gb_per_s']} GB/s"
        yield Figure(f"{among}: time, Crisper / {senders[row['alone']]}", row["time_ratio"], 1.05, note=note)
        yield Figure(f"{among}: CPU of Crisper per GiB", row["crisper_cpu_s_per_gib"], 0.02, " s")


def restart(result: Result) -> Iterator[Figure]:
    name = f"rolling restarts with {result['clients']} clients: failed pulls of {result['pulls']:,}"
    yield Figure(name, result["failed_pulls"], 0)


def soak(result: Result) -> Iterator[Figure]:
    name = f"soak, {result['minutes']:.0f} min, {result['pulls']:,} pulls: failed checks"
    failed = sum(not passed for passed in result["verdict"].values())
    yield Figure(name, failed, 0, note="; ".join(result["verdict"]))


def redemptions(result: Result) -> Iterator[Figure]:
    cost = f"{result['cpu_ms_each']} ms of CPU each"
    rate = result["redemptions_per_s"]
    yield Figure("redemptions per second, 1 worker", rate, 2000, note=cost, higher_is_better=True)
    if "at_1000_p99_ms" in result:
        yield Figure("redemption p99 at 1,000 per second", result["at_1000_p99_ms"], 20, " ms")
    yield Figure("redemption p99 at half of the maximum rate", result["half_load_p99_ms"], 20, " ms")
    if "outstanding" in result:
        tokens = f"{result['outstanding']:,} outstanding tokens"
        yield Figure(f"Redis memory per token, {tokens}", result["bytes_each"], 900, " bytes")
        before, after = result["half_load_p50_ms"], result["outstanding_p50_ms"]
        name = f"redemption p50 with {tokens} / without"
        yield Figure(name, round(after / before, 2), 1.1, note=f"{after} ms")


def storage(result: Result) -> Iterator[Figure]:
    alone, backends = result["alone"], result["backends"]
    opened = backends["disk"]["open_one_thread"]
    alone_s = 1 / alone["aes_256_gcm_open"] + 1 / alone["page_cache_read"]
    name = "open a blob, 1 thread, page cache: time, Crisper / AES-256-GCM and reading"
    yield Figure(name, round(1 / opened / alone_s, 2), None, note=f"{opened:,.0f} MB/s")
    for backend, speeds in backends.items():
        ratio = round(alone["sha256"] / speeds["ingest"], 2)
        where = "without a backend" if backend == "nowhere" else f"to {backend}"
        yield Figure(
            f"ingest {where}: time, Crisper / sha256", ratio, 1.18, note=f"{speeds['ingest']:,.0f} MB/s"
        )


FIGURES: Final[Mapping[str, Callable[[Result], Iterator[Figure]]]] = {
    "pull": pull,
    "offload": offload,
    "manifests": manifests,
    "whole-pull": whole_pull,
    "import": imports,
    "memory": memory,
    "slow": slow,
    "restart": restart,
    "soak": soak,
    "redemptions": redemptions,
    "storage": storage,
}
