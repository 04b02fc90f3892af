"""Compare importing an image with `skopeo copy` of it to another registry, from one upstream, alternately.

    python -m bench.import_vs_skopeo --rounds 5

Both verify every digest; Crisper encrypts, the registry stores plaintext. In one row, compression is off, so
that both copy the bytes unchanged. The other row uses Crisper's defaults: it also unpacks every layer,
checks it against the image's config, and stores a zstd copy if that is smaller, which skopeo does not do.
Every round starts empty: with a new organization in Crisper and an emptied registry. The time of an import
is from the request until the group is ready.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.whole_pull import realistic
from tests.support.crisper import CrisperServer
from tests.support.images import Image
from tests.support.processes import run, wait_until
from tests.support.upstream import Upstream

POLL_S = 0.05  # polling every 10 ms took a third of a core from the import


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    image = realistic()
    with TemporaryDirectory(prefix="crisper-bench-") as name:
        folder = Path(name)
        with Upstream.anonymous(folder / "upstream") as upstream:
            upstream.push(image)
            rows = [
                measured(folder / f"compress-{compress}", upstream, image, options.rounds, compress=compress)
                for compress in (False, True)
            ]
    figures = {"image_bytes": sum(map(len, image.blobs.values())), "rows": rows}
    print(f"written to {results.write('import', 'an import beside skopeo copy to a registry', figures)}")


def measured(
    folder: Path, upstream: Upstream, image: Image, rounds: int, *, compress: bool
) -> dict[str, object]:
    env = {"CRISPER_COMPRESS": str(compress).lower()}
    reference = upstream.reference(image)
    imports, copies = [], []
    with CrisperServer(folder / "crisper", insecure_registries=[upstream.host], env=env) as server:
        for turn in range(rounds + 1):
            taken = imported(server, reference), copied(folder / f"copy-{turn}", reference)
            if turn:  # the first round fills the caches
                imports.append(taken[0])
                copies.append(taken[1])
    ours, theirs = round(statistics.median(imports), 3), round(statistics.median(copies), 3)
    ratio = round(ours / theirs, 2)
    what = "compressing" if compress else "as it comes"
    print(f"import {what} {ours} s, skopeo copy {theirs} s, ours / skopeo {ratio}")
    return {"compress": compress, "import_s": ours, "skopeo_copy_s": theirs, "ours_to_skopeo": ratio}


def imported(server: CrisperServer, reference: str) -> float:
    customer = server.customer(server.operator.create_organization())
    began = time.monotonic()
    group = customer.create_group(reference)
    wait_until(lambda: customer.status(group) != "pending", timeout_s=120, what="import", interval_s=POLL_S)
    took = time.monotonic() - began
    if customer.status(group) != "stopped":
        raise SystemExit("the import failed")
    return took


def copied(folder: Path, reference: str) -> float:
    with Upstream.anonymous(folder) as target:
        argv = [
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            f"docker://{reference}",
        ]
        began = time.monotonic()
        run([*argv, f"docker://{target.host}/bench/copy:latest"], timeout_s=120).check()
        took = time.monotonic() - began
    shutil.rmtree(folder)
    return took


if __name__ == "__main__":
    main()
