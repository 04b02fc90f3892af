"""Run rounds of imports, pulls, deletions and collections at the same time, and print what happened.

Usage: python -m tools.collection_soak ROUNDS
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.support.collection_soak import soak
from tests.support.postgres import postgres


def main(rounds: int) -> None:
    """Run on PostgreSQL: SQLite does not promise to serve fifty concurrent writers in time."""
    with tempfile.TemporaryDirectory(prefix="crisper-pg-", dir="/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "pg").mkdir(mode=0o755)
        began = time.monotonic()
        with postgres(root / "pg") as url:
            counted = asyncio.run(soak(root, rounds=rounds, imports=50, url=url))
        print(f"{rounds} rounds in {time.monotonic() - began:.0f} s: {dict(counted)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
