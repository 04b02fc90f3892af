"""Version 0.1.0 of the server, installed from the history with the packages of its own lock file."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.built_programs import CACHE, once
from tests.support.processes import run

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "03ed8a3"
_UV = ROOT / ".venv" / "bootstrap" / "bin" / "uv"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def old_crisper() -> Path:
    """Return the `crisper` of 0.1.0. The first call on a machine installs it, which takes seconds."""
    program = CACHE / f"crisper-{COMMIT}-python{_PYTHON}" / ".venv" / "bin" / "crisper"
    return once(program, lambda: _install(program.parents[2]))


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = ["git", "archive", "--format=tar", COMMIT]
    source = subprocess.run(archive, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=60).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=source, check=True, timeout=60)
    options = ("--quiet", "--locked", "--no-dev", "--no-editable", "--python", sys.executable)
    run([str(_UV), "sync", "--project", str(folder), *options], timeout_s=300).check()
