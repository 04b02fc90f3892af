"""A minute of the game day (`python -m tools.game_day`), and its order of kills."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.game_day import PARTS, PERIOD_S, GameDay, schedule
from tests.support.production import production
from tests.support.upstream import Upstream

SECONDS = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' own users can reach."""
    made = Path(mkdtemp(prefix="game-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_seed_gives_one_order_which_reaches_every_part() -> None:
    assert schedule(1, 1800) == schedule(1, 1800)
    assert schedule(1, 1800) != schedule(2, 1800)
    assert len(schedule(1, 1800)) == 1800 // PERIOD_S
    assert set(schedule(1, 1800)) == set(PARTS)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_what_dies_for_a_minute_costs_no_pull_and_no_import(folder: Path, upstream: Upstream) -> None:
    with production(folder, insecure_registries=[upstream.host], response_bytes_s=50_000_000) as shape:
        result = GameDay(shape, upstream, seed=3, clients=8).run(SECONDS)
    assert result.problems == []
    assert result.counts["pulls"] > 8
    assert result.counts["imports"] > 3
    killed = sum(count for what, count in result.counts.items() if what.startswith("killed"))
    assert killed == SECONDS // PERIOD_S
