"""Run many imports of few images at the same time, with several worker processes.

    python -m bench.many_imports --imports 200 --images 20 --workers 4

Every image has its own layers and one layer that all images share. Exits with 1 if an import fails, a layer
is fetched more than once, or a process uses more than the limit.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.rss import MIB, TreeSampler
from tests.support.crisper import CrisperServer
from tests.support.many_imports import import_many, random_upstream


def main() -> None:
    options = _options()
    with (
        TemporaryDirectory(dir=options.folder, prefix="crisper-bench-") as name,
        random_upstream(
            Path(name), size_gb=options.image_mb / 1000, layers=options.layers, images=options.images
        ) as upstream,
    ):
        env = {"CRISPER_WORKERS": str(options.workers)}
        with CrisperServer(Path(name) / "crisper", insecure_registries=[upstream.host], env=env) as server:
            sampler = TreeSampler(server.process.pid)
            with sampler.phase("imports") as phase:
                done = import_many(
                    server,
                    upstream,
                    images=options.images,
                    imports=options.imports,
                    timeout_s=options.timeout_s,
                )
    peak = max(size for name, size in phase.peaks.items() if name not in {"ledger", "total"})
    good = {
        f"imports: {done.statuses}": done.statuses == {"stopped": options.imports},
        f"layers fetched again: {done.fetched_again}": not done.fetched_again,
        f"peak of one process: {peak / MIB:.0f} MiB": peak <= options.limit_mib * MIB,
    }
    figures = {
        "imports": options.imports,
        "images": options.images,
        "workers": options.workers,
        "image_mb": options.image_mb,
        "took_s": done.took_s,
        "verdict": good,
        "memory": phase.as_json(),
    }
    print(f"{options.imports} imports of {options.images} images took {done.took_s} s")
    for line, fine in good.items():
        print(f"  {'ok  ' if fine else 'BAD '} {line}")
    print(f"written to {results.write('many-imports', 'many imports at the same time', figures)}")
    if not all(good.values()):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imports", type=int, default=200)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--image-mb", type=float, default=60)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--limit-mib", type=int, default=320)
    parser.add_argument("--timeout-s", type=float, default=1200)
    parser.add_argument("--folder", type=Path, help="ciphertext folder; default: the system's temporary one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
