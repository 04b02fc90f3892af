"""Gitea, whose package registry speaks the distribution API behind a token realm of its own."""

from pathlib import Path
from secrets import token_hex

from tests.support.built_programs import gitea
from tests.support.http import basic, request
from tests.support.processes import Process, free_port, listening, run
from tests.support.upstream import PASSWORD, USERNAME

_CONFIG = """
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
RUN_MODE = prod
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {static}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
[cron]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[log]
MODE = console
LEVEL = warn
"""


class Gitea(Process):
    """A server on a port of 127.0.0.1 with one user; images are pushed to an organization.

    Args:
        folder: Holds its database, packages and log; a later server on it continues.
        port: Where it listens; any free one by default.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        program, static = gitea()
        config = folder / "app.ini"
        self._argv = [str(program), "--config", str(config)]
        if not config.exists():
            config.write_text(
                _CONFIG.format(folder=folder, port=self.port, static=static, secret=token_hex(16))
            )
            self._run("migrate")
            account = ["--username", USERNAME, "--password", PASSWORD, "--email", "customer@example.com"]
            self._run("admin", "user", "create", *account, "--admin", "--must-change-password=false")
        super().__init__(
            [*self._argv, "web"], folder / "gitea.log", ready=lambda: listening(self.port), timeout_s=60
        )

    def create_organization(self, name: str, *, private: bool) -> None:
        """Create the owner of images; without credentials, its images can be pulled only if it is public."""
        headers = {"Authorization": basic(USERNAME, PASSWORD)}
        body = {"username": name, "visibility": "private" if private else "public"}
        request("POST", f"http://{self.host}/api/v1/orgs", headers=headers, body=body).expect(201)

    def _run(self, *argv: str) -> None:
        run([*self._argv, *argv]).check()
