"""Kill parts of the production shape while clients pull and customers import; print the result as JSON.

Usage: python -m tools.game_day [--seconds 1800] [--clients 64] [--seed 1]

Exits with 1 if a token worked twice, bytes were wrong, an import was lost, or a pull did not complete.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.game_day import GameDay
from tests.support.production import production
from tests.support.upstream import Upstream

FAILURES = ("double sessions", "wrong bytes", "imports lost", "incomplete pulls")
RESPONSE_BYTES_S = 50_000_000


def main() -> int:
    """Run a game day; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="game-", dir="/tmp"))  # a socket's path may not be long
    for each in (folder, folder / "site"):
        each.mkdir(exist_ok=True)
        each.chmod(0o755)
    with (
        Upstream(folder / "upstream") as upstream,
        production(
            folder / "site", insecure_registries=[upstream.host], response_bytes_s=RESPONSE_BYTES_S
        ) as shape,
    ):
        result = GameDay(shape, upstream, seed=chosen.seed, clients=chosen.clients).run(chosen.seconds)
    sys.stdout.write(json.dumps(vars(chosen) | dict(result.summary()), indent=2) + "\n")
    if any(result.counts[failure] for failure in FAILURES):
        sys.stderr.write(f"the logs are in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
