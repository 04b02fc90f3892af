"""Write README's tables from the newest results, so that no figure there is typed by hand."""

import re
from collections.abc import Callable, Mapping

from bench.results import ROOT, Result, load

README = ROOT / "README.md"
PEERS = {"distribution": "Distribution, plaintext", "nginx": "nginx sendfile, plaintext"}


def newest(kind: str) -> Result | None:
    """Return the newest result of a benchmark; None if there is none of a commit."""
    return max(load(kind).values(), key=lambda result: result["date"], default=None)


def where(result: Result) -> str:
    machine = result["machine"]
    vaes = {True: " with VAES", False: " without VAES", None: ""}[machine.get("vaes")]
    return (
        f"{machine['cores']} cores, {machine['cpu']}{vaes}; {result['date'][:10]}, commit {result['commit']}"
    )


def memory_table() -> str:
    result = newest("memory")
    if result is None:
        return "Not measured yet: `make bench`."
    lines = ["| phase | took | server's peak resident memory |", "|---|---|---|"]
    for name, phase in result["phases"].items():
        lines.append(f"| {name} | {phase['duration_s']:.0f} s | {phase['peak_rss_mib']['server']:.0f} MiB |")
    size_gb = result["image"]["size_bytes"] / 1e9
    layers = result["image"]["layers"]
    lines += ["", f"{size_gb:.0f} GB in {layers} layer{'s' * (layers != 1)}; {where(result)}."]
    return "\n".join(lines)


def performance_table() -> str:
    """One row a figure: measured, or why not."""
    lines = ["| figure | measured | goal |", "|---|---|---|"]
    notes = []
    for kind, rows in ROWS.items():
        result = newest(kind)
        if result is None:
            lines.append(f"| `bench.{MODULES[kind]}` | not run on this machine yet | |")
            continue
        lines += rows(result)
        notes.append(f"{kind}: {where(result)}")
    return "\n".join([*lines, "", "; ".join(dict.fromkeys(notes)) + "."])


def _pull(result: Result) -> list[str]:
    alone = {
        ("distribution", "plain"): "1.0",
        ("distribution", "tls"): "1.25",
        ("nginx", "plain"): "0.85",
        ("nginx", "tls"): "0.8",
    }
    lines = []
    for row in result["rows"]:
        for peer, name in PEERS.items():
            if peer not in row["ours_to"]:
                continue
            ratio = row["ours_to"][peer]
            what = f"blob, {row['clients']} client(s), {row['transport']}: ours / {name}"
            # Of many clients the goals say only that they match Distribution.
            many = row["clients"] > 1 and peer == "distribution"
            goal = "1.0" if many else alone[peer, row["transport"]]
            speed = row["medians"]["crisper"]["gb_per_s"]
            lines.append(f"| {what} | {ratio['speed']} ({speed} GB/s), CPU {ratio['cpu']} | >= {goal} |")
        fair = row["medians"]["crisper"]["mean_to_slowest_client"]
        if row["clients"] > 1:
            what = f"{row['clients']} clients, {row['transport']}: mean time / slowest client's"
            lines.append(f"| {what} | {fair} | >= 0.5 |")
    return lines


def _manifests(result: Result) -> list[str]:
    return [
        f"| manifests/s, {row['workers']} worker(s): ours / Distribution with token auth "
        f"| {row['ours_to_distribution']} ({row['requests_per_s']['crisper']}/s) | >= 1.5 |"
        for row in result["rows"]
    ]


def _whole(result: Result) -> list[str]:
    lines = []
    for row in result["rows"]:
        size = row.get("image_bytes", result["image_bytes"]) / 1e6
        in_zstd, goal = (" in zstd", "0.7") if row["layers"] == "zstd" else ("", "1.0")
        lines.append(
            f"| whole pull by {row['client']}, {size:.0f} MB in gzip: ours{in_zstd} / Distribution "
            f"| {row['ours_to_distribution']} ({row['crisper_s']} s) | <= {goal} |"
        )
    return lines


def _import(result: Result) -> list[str]:
    return [
        f"| import{', compressed too' if row.get('compress') else ''}: ours / `skopeo copy` to a registry "
        f"| {row['ours_to_skopeo']} ({row['import_s']} s) | <= 0.8 |"
        for row in result.get("rows", [result])
    ]


def _slow(result: Result) -> list[str]:
    return [f"| memory with {result['clients']} slow clients | {result['peak_rss_mib']} MiB | <= 400 MiB |"]


def _restart(result: Result) -> list[str]:
    what = f"rolling restarts under {result['clients']} clients: failed of {result['pulls']} pulls"
    return [f"| {what} | {result['failed_pulls']} | 0 |"]


def _redemptions(result: Result) -> list[str]:
    rate, cost = result["redemptions_per_s"], result["cpu_ms_each"]
    lines = [
        f"| redemptions/s, one worker | {rate} ({cost} ms CPU each) | >= 2000 |",
        f"| their p99 at half of that | {result['half_load_p99_ms']} ms | <= 20 ms |",
        f"| their p99 at 1000/s | {result['at_1000_p99_ms']} ms | <= 20 ms |",
    ]
    if "outstanding" in result:
        what = f"{result['outstanding']} outstanding tokens: bytes each in Redis"
        lines.append(f"| {what} | {result['bytes_each']} | <= 800 |")
        before, after = result["half_load_p50_ms"], result["outstanding_p50_ms"]
        lines.append(f"| redemption p50 with them | {after} ms, without {before} ms | unchanged |")
    return lines


def _storage(result: Result) -> list[str]:
    alone, backends = result["alone"], result["backends"]
    opened, decrypted, read = (
        backends["disk"]["open_one_thread"],
        alone["aes_256_gcm_open"],
        alone["page_cache_read"],
    )
    parts = f"AES-256-GCM alone {decrypted}, reading alone {read}"
    lines = [f"| `BlobStore.open`, one thread, from the page cache | {opened} MB/s; {parts} | >= 3000 MB/s |"]
    for name, speeds in backends.items():
        ratio = round(speeds["ingest"] / alone["sha256"], 2)
        lines.append(f"| ingest to {name}: speed / sha256's | {ratio} ({speeds['ingest']} MB/s) | >= 0.85 |")
    return lines


def _soak(result: Result) -> list[str]:
    said = "; ".join(result["verdict"])
    return [f"| soak, {result['minutes']:.0f} min, {result['pulls']} pulls | {said} | no growth |"]


MODULES: Mapping[str, str] = {
    "pull": "pull",
    "manifests": "manifests",
    "whole-pull": "whole_pull",
    "import": "import_vs_skopeo",
    "slow": "slow_clients",
    "restart": "rolling_restart",
    "soak": "soak",
    "redemptions": "redemptions",
    "storage": "storage",
}
ROWS: Mapping[str, Callable[[Result], list[str]]] = {
    "pull": _pull,
    "manifests": _manifests,
    "whole-pull": _whole,
    "import": _import,
    "slow": _slow,
    "restart": _restart,
    "soak": _soak,
    "redemptions": _redemptions,
    "storage": _storage,
}


def fill(text: str, name: str, table: str) -> str:
    """Replace what follows a marker, up to the next heading."""
    marker = f"<!-- bench:{name} -->"
    pattern = re.compile(f"{re.escape(marker)}\n.*?(?=\n## )", re.DOTALL)
    return pattern.sub(lambda _: f"{marker}\n\n{table}\n", text)


def main() -> None:
    text = fill(README.read_text(), "memory", memory_table())
    README.write_text(fill(text, "performance", performance_table()))


if __name__ == "__main__":
    main()
