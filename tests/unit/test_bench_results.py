"""Results of benchmarks: the newest of each kind and machine, measured at a commit."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bench import results


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def git(*argv: str) -> None:
        author = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
        subprocess.run(["git", *author, *argv], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "code.py").write_text("")
    git("add", ".")
    git("commit", "-m", "code")
    return tmp_path


def kept(root: Path, kind: str) -> list[int]:
    return sorted(result["figure"] for result in results.load(kind, root).values())


def test_a_result_replaces_the_earlier_of_its_kind_and_machine(root: Path) -> None:
    first = results.write("memory", "what", {"figure": 1}, root)
    results.write("import-memory", "what", {"figure": 2}, root)
    earlier = json.loads(first.read_text())
    first.unlink()
    (first.parent / "2020-01-01-0123abc-memory.json").write_text(json.dumps(earlier))
    earlier["machine"]["cores"] += 1
    (first.parent / "2020-01-01-4567def-memory.json").write_text(json.dumps({**earlier, "figure": 3}))

    results.write("memory", "what", {"figure": 4}, root)

    assert kept(root, "memory") == [3, 4]
    assert kept(root, "import-memory") == [2]


def test_a_result_of_uncommitted_code_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.write("pull", "what", {"figure": 1}, root)
    (root / "code.py").write_text("changed")

    path = results.write("pull", "what", {"figure": 2}, root)

    assert path.parent == root / "build" / "bench"
    assert "uncommitted changes" in capsys.readouterr().out
    assert kept(root, "pull") == [1]


def test_the_repository_keeps_one_result_of_each_kind_and_machine() -> None:
    paths = list((results.ROOT / "bench" / "results").iterdir())
    kinds = {re.sub(r"^\d{4}-\d\d-\d\d-[0-9a-f]+-", "", path.stem) for path in paths}
    found = [[results.machine_of(result) for result in results.load(kind).values()] for kind in kinds]
    assert sum(map(len, found)) == len(paths)
    assert all(len(machines) == len(set(machines)) for machines in found)
