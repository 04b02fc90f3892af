"""PostgreSQL servers that a test kills, copies, promotes and restores to a point in time.

Each listens on a unix socket in a folder. Clients may use a link to it, which then leads to another server.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.postgres import binaries
from tests.support.processes import Process, wait_until

_START_S = 60


class PostgresServer:
    """A server with its data, its archive of WAL and its log in a folder.

    Args:
        folder: Short, and reachable for the server's own user.

    Attributes:
        archive: Where the server copies its WAL, for restores to a point in time.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._data, self.archive = folder, folder / "data", folder / "archive"
        self.archive.mkdir(exist_ok=True)
        self._user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            for path in (folder, self.archive):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._process: Process | None = None

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Create a cluster with the empty database `crisper`, and start it."""
        made = cls(folder)
        made._run("initdb", "-D", str(made._data), "-U", "crisper", "--auth=trust", "-N")
        made.start()
        made._run("createdb", "-h", str(folder), "-U", "crisper", "crisper")
        return made

    @property
    def url(self) -> str:
        return database_url(self.folder)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",  # the tests kill processes, not machines
            "archive_mode": "on",
            "archive_command": f"cp %p {self.archive}/%f",
            "archive_timeout": "2",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [*self._as_user(), str(binaries() / "postgres"), "-D", str(self._data), *options]
        self._process = Process(argv, self.folder / "log", ready=self._accepts, timeout_s=_START_S)

    def kill9(self) -> None:
        """Kill the first process, and wait until the others have gone, which end by themselves."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill9()
        wait_until(
            lambda: not any(child.is_running() and child.status() != "zombie" for child in children),
            timeout_s=30,
            what="the killed server's children end",
        )

    def stop(self) -> None:
        if self._process is not None and self._process.running:
            self.query("CHECKPOINT")
            self.kill9()

    def now(self) -> str:
        """Return the server's time, as a target of recovery."""
        return self.query("SELECT clock_timestamp()")

    def base_backup(self, target: Path) -> None:
        """Copy the running server's files."""
        self._copy(target, "--wal-method=none")

    def replica(self, folder: Path) -> "PostgresServer":
        """Start a replica that follows this server."""
        made = PostgresServer(folder)
        self._copy(made._data, "--wal-method=stream", "--write-recovery-conf")
        made.start()
        return made

    def promote(self) -> None:
        """Make a replica a primary."""
        self.query("SELECT pg_promote()")
        wait_until(
            lambda: self.query("SELECT pg_is_in_recovery()") == "f", timeout_s=60, what="it is the primary"
        )

    def follows(self) -> bool:
        """Tell whether a replica has applied everything that it received."""
        return self.query("SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()") == "t"

    @classmethod
    def restored(cls, folder: Path, backup: Path, archive: Path, until: str) -> Self:
        """Start a server on a base backup and the archived WAL up to a time; wait until it is a primary."""
        made = cls(folder)
        shutil.copytree(backup, made._data)
        made._data.chmod(0o700)
        if made._user is not None:
            subprocess.run(["chown", "-R", f"{made._user}:", str(made._data)], check=True)
        (made._data / "recovery.signal").touch()
        with (made._data / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"restore_command = 'cp {archive}/%f %p'\n")
            conf.write(f"recovery_target_time = '{until}'\nrecovery_target_action = 'promote'\n")
        made.start()
        wait_until(
            lambda: made.query("SELECT pg_is_in_recovery()") == "f", timeout_s=60, what="it is restored"
        )
        return made

    def _copy(self, target: Path, *options: str) -> None:
        source = ("-h", str(self.folder), "-U", "crisper")
        self._run("pg_basebackup", *source, "-D", str(target), "--checkpoint=fast", *options)

    def query(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; return its rows as lines."""
        argv = ("-h", str(self.folder), "-U", "crisper", "-d", database, "-Atc", statement)
        return self._run("psql", *argv).strip()

    def _accepts(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return self.query("SELECT 1") == "1"
        return False

    def _as_user(self) -> Sequence[str]:
        if self._user is None:
            return ()
        return (
            "setpriv",
            f"--reuid={self._user}",
            f"--regid={self._user}",
            "--clear-groups",
            "--pdeathsig",
            "TERM",
        )

    def _run(self, program: str, *argv: str) -> str:
        command = [*self._as_user(), str(binaries() / program), *argv]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"{program}: {ended.stderr.strip()}")
        return ended.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def database_url(folder: Path) -> str:
    """Return the SQLAlchemy URL of the database whose server has its socket in a folder."""
    return f"postgresql+asyncpg://crisper@/crisper?host={folder}"
