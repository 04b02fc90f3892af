"""Resident memory of `crisper serve` while it imports images of very different sizes.

    python -m bench.import_memory --sizes-gb 0.1,1,10

Each size has its own server with a temporary data folder. Exits with 1 if a process uses more than the
limit, or if the peaks for the smallest and the largest image differ by more than `--growth-mib`.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.rss import MIB, Phase, TreeSampler
from tests.support.crisper import CrisperServer
from tests.support.many_imports import random_upstream


def main() -> None:
    options = _options()
    sizes = [float(text) for text in options.sizes_gb.split(",")]
    phases = {}
    for size_gb in sizes:
        with TemporaryDirectory(dir=options.folder, prefix="crisper-bench-") as name:
            phases[size_gb] = phase = measure(Path(name), size_gb, options.layers, options.encryption)
        print(f"{size_gb:g} GB: {peak_mib(phase):.0f} MiB, {phase.duration_s:.1f} s", flush=True)
    peaks = [peak_mib(phases[size]) for size in sorted(sizes)]
    growth = peaks[-1] - peaks[0]
    figures = {
        "layers": options.layers,
        "encryption": options.encryption,
        "limit_mib": options.limit_mib,
        "growth_mib": round(growth, 1),
        "sizes_gb": {f"{size:g}": phase.as_json() for size, phase in phases.items()},
    }
    path = results.write("import-memory", "resident memory while importing images of many sizes", figures)
    print(f"grows by {growth:.0f} MiB from {min(sizes):g} to {max(sizes):g} GB; written to {path}")
    if max(peaks) > options.limit_mib or growth > options.growth_mib:
        sys.exit(1)


def measure(folder: Path, size_gb: float, layers: int, encryption: str) -> Phase:
    """Import one image and return the memory and time of the import."""
    with random_upstream(folder, size_gb=size_gb, layers=layers) as upstream:
        env = {"CRISPER_ENCRYPTION": encryption}
        server = CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env)
        with server:
            customer = server.customer(server.operator.create_organization())
            with TreeSampler(server.process.pid).phase(f"{size_gb:g} GB") as phase:
                group = customer.create_group(upstream.reference)
                state = customer.wait_settled(group, timeout_s=60 + 120 * size_gb)["current_state"]
    if state["status"] != "stopped":
        sys.exit(f"the import ended {state['status']}: {state.get('description')}")
    return phase


def peak_mib(phase: Phase) -> float:
    return max(peak for name, peak in phase.peaks.items() if name not in {"ledger", "total"}) / MIB


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes-gb", default="0.1,1,10", help="image sizes in 10^9 bytes, comma-separated")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--growth-mib", type=int, default=48)
    parser.add_argument("--encryption", default="preferred", help="policy; `none` stores layers in OEB1")
    parser.add_argument("--folder", type=Path, help="ciphertext folder; default: the system's temporary one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
