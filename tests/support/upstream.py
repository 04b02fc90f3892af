"""The customer's registry: CNCF Distribution, with or without a password."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypedDict

from tests.support.certificates import CertificateFiles
from tests.support.http import basic
from tests.support.images import Image
from tests.support.processes import Process, free_port, listening, run
from tests.support.pushing import push_image

USERNAME = "customer"
PASSWORD = "correct-horse-battery-staple-4711"


class Login(TypedDict):
    """User name and password; None where an upstream asks for none."""

    username: str | None
    password: str | None


class Upstream(Process):
    """A registry on a free port of 127.0.0.1, its blobs under `folder`.

    Args:
        folder: Holds the registry's files and its log; made if missing.
        username: Who may pull and push; None lets everybody.
        password: That user's password.
        tls: Its certificate; it answers over TLS then.
        program: Version 2 as Debian packages it, by default.
        port: Where it listens; any free one by default.
        address: Where it listens.
        prefix: Command that starts it in its own place, such as `nsenter`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        username: str | None = USERNAME,
        password: str | None = PASSWORD,
        tls: CertificateFiles | None = None,
        program: str | Path = "docker-registry",
        port: int | None = None,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self.port = port or free_port()
        self.host = f"{address}:{self.port}"
        self.username, self.password = username, password
        self.tls = tls
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.json"
        config.write_text(json.dumps(self._config(folder)))  # JSON is YAML
        super().__init__(
            [*prefix, str(program), "serve", str(config)],
            folder / "upstream.log",
            ready=lambda: listening(self.port, address),
        )

    @classmethod
    def anonymous(cls, folder: Path) -> Self:
        """Start one without a password."""
        return cls(folder, username=None, password=None)

    @classmethod
    def over_tls(cls, folder: Path, tls: CertificateFiles) -> Self:
        """Start one over TLS, without a password, on a folder that another one filled."""
        return cls(folder, username=None, password=None, tls=tls)

    @property
    def login(self) -> Login:
        """User name and password as keyword arguments of a customer's calls."""
        return {"username": self.username, "password": self.password}

    def _config(self, folder: Path) -> dict[str, object]:
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
            "http": {"addr": self.host},
        }
        if self.tls is not None:
            files = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
            config["http"] = {"addr": self.host, "tls": files}
        if self.username is not None and self.password is not None:
            config["auth"] = {"htpasswd": {"realm": "upstream", "path": str(self._htpasswd(folder))}}
        return config

    def _htpasswd(self, folder: Path) -> Path:
        path = folder / "htpasswd"
        run(["htpasswd", "-Bbc", str(path), str(self.username), str(self.password)]).check()
        return path

    def reference(self, image: Image, tag: str = "latest") -> str:
        """Return what a customer would write to name `image` here."""
        return f"{self.host}/{image.name}:{tag}"

    def push(self, image: Image, tag: str = "latest") -> None:
        """Upload every blob and document of `image`."""
        push_image(self.host, image, tag, self._headers())

    def _headers(self) -> dict[str, str]:
        if self.username is None or self.password is None:
            return {}
        return {"Authorization": basic(self.username, self.password)}
