"""A PostgreSQL server of the test run's own, on a unix socket in a temporary folder."""

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path:
    """Return the folder of the newest installed server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise RuntimeError("these tests need a PostgreSQL server: apt-get install postgresql")
    return found[-1].parent


def another_database(url: str, *, like: str = "template1") -> str:
    """Make one more database on the server that `postgres` runs; return its URL.

    Args:
        like: The database to copy, which must have no connections; the server's own is empty.
    """
    name = f"crisper_{secrets.token_hex(6)}"
    _administer(url, "createdb", "-T", like, name)
    return url.replace("/crisper?", f"/{name}?")


def drop_database(url: str) -> None:
    """Drop a database that has no connections."""
    _administer(url, "dropdb", url.partition("@/")[2].partition("?")[0])


def _administer(url: str, tool: str, *argv: str) -> None:
    folder = url.rpartition("host=")[2]
    command: list[str | Path] = [binaries() / tool, "-h", folder, "-U", "crisper", *argv]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a server; yield the SQLAlchemy URL of an empty database on it."""
    programs, data = binaries(), folder / "data"
    # PostgreSQL refuses to run as root; its package brings the user.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    subprocess.run([programs / "initdb", "-D", data, "-U", "crisper", "--auth=trust", "-N"],
                   user=user, check=True, capture_output=True, cwd=folder)  # fmt: skip
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
        user=user, stdout=log, stderr=log, cwd=folder,
    )  # fmt: skip
    try:
        createdb: list[str | Path] = [programs / "createdb", "-h", folder, "-U", "crisper", "crisper"]
        for _ in range(100):
            if subprocess.run(createdb, capture_output=True, check=False).returncode == 0:
                break
            server.poll()
        else:
            raise RuntimeError((folder / "log").read_text())
        yield f"postgresql+asyncpg://crisper@/crisper?host={folder}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()
        shutil.rmtree(data, ignore_errors=True)
