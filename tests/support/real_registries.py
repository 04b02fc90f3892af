"""The registry programs that customers host themselves, each on loopback, public or private.

distribution-2            CNCF Distribution 2.8 as Debian packages it; private by htpasswd (Basic)
distribution-3            version 3 of it, likewise
go-containerregistry      `crane registry serve`; has no accounts, so nginx asks for the password (Basic)
gitea                     its package registry; private by the owner's visibility (Bearer)
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from tests.support.built_programs import go_program
from tests.support.gitea import Gitea
from tests.support.go_registry import GoRegistry
from tests.support.http import basic
from tests.support.images import Image
from tests.support.processes import Process, free_port, listening, run
from tests.support.pushing import push_image
from tests.support.upstream import PASSWORD, USERNAME, Upstream

OWNER = "acme"
"""First part of every repository's name."""

# Without a file for what the registry sent already: an answer ends with the registry.
_NGINX = """
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{}}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {folder}/body;
  proxy_max_temp_file_size 0;
  server {{
    listen 127.0.0.1:{port};
    auth_basic registry; auth_basic_user_file {folder}/htpasswd;
    location / {{ proxy_pass http://127.0.0.1:{target_port}; proxy_set_header Host $http_host; }}
  }}
}}
"""


class RealRegistry:
    """A registry that can be ended and started again on its port, with what it stores.

    Attributes:
        answers_ranges: A cut blob can be resumed; otherwise it is fetched from its start.
        private: Images can be pulled with the customer's credentials only.
        port: Where customers reach it.
    """

    answers_ranges = True

    def __init__(self, folder: Path, *, private: bool) -> None:
        self.private = private
        self._folder = folder
        self._server_port = self.port = free_port()
        self._front = ExitStack()
        self._process: Process | None = None

    def start(self) -> None:
        """Start the program; return when it accepts connections."""
        self._process = self._start()

    def kill(self) -> None:
        """End the program at once, as a power cut would."""
        if self._process is not None:
            self._process.kill9()
            self._process = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of a request that pushes."""
        return {"Authorization": basic(USERNAME, PASSWORD)} if self.private else {}

    def push(self, image: Image, tag: str = "latest") -> None:
        """Push an image with all that it names."""
        push_image(self.host, image, tag, self.headers)

    def _start(self) -> Process:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._front.close()
        if self._process is not None:
            self._process.stop()


class Distribution2(RealRegistry):
    """CNCF Distribution 2.8."""

    def _start(self) -> Process:
        return self._serve("docker-registry")

    def _serve(self, program: str) -> Process:
        username, password = (USERNAME, PASSWORD) if self.private else (None, None)
        return Upstream(
            self._folder, username=username, password=password, program=program, port=self._server_port
        )


class Distribution3(Distribution2):
    """CNCF Distribution 3."""

    def _start(self) -> Process:
        return self._serve(str(go_program("registry")))


class GoContainerRegistry(RealRegistry):
    """go-containerregistry's own registry, behind nginx if it is private."""

    def _start(self) -> Process:
        server = GoRegistry(self._folder, self._server_port)
        if self.private and self.port == self._server_port:
            self.port = free_port()
            self._front.enter_context(self._nginx())
        return server

    def _nginx(self) -> Process:
        folder, htpasswd = self._folder, self._folder / "htpasswd"
        run(["htpasswd", "-sbc", str(htpasswd), USERNAME, PASSWORD]).check()
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=self.port, target_port=self._server_port))
        argv = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx-error.log")]
        return Process(argv, folder / "nginx.log", ready=lambda: listening(self.port))


class GiteaRegistry(RealRegistry):
    """Gitea's package registry. Files from its disk are always answered whole, with 200."""

    answers_ranges = False

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the customer: nobody else may push."""
        return {"Authorization": basic(USERNAME, PASSWORD)}

    def _start(self) -> Process:
        is_new = not any(self._folder.iterdir())
        server = Gitea(self._folder, self._server_port)
        if is_new:
            server.create_organization(OWNER, private=self.private)
        return server


REGISTRIES: Mapping[str, Callable[..., RealRegistry]] = MappingProxyType(
    {
        "distribution-2": Distribution2,
        "distribution-3": Distribution3,
        "go-containerregistry": GoContainerRegistry,
        "gitea": GiteaRegistry,
    }
)
