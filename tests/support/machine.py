"""A node's file system: clients read their registry certificates under a root other than `/`."""

from pathlib import Path

from tests.support.clients import Client, Ctr, Podman, Skopeo

DOCKERS = Path("/etc/docker/certs.d")  # where dockerd looks, and nowhere else


class Machine:
    """Has clients read their registry certificates under a root other than `/`."""

    def __init__(self, dockers_links: list[Path]) -> None:
        self._links = dockers_links

    def is_at(self, root: Path, host: str, client: Client) -> None:
        certificates = root / "etc/docker/certs.d" / host
        match client:
            case Ctr():
                client.transport = ["--hosts-dir", str(root / "etc/containerd/certs.d")]
            case Podman():
                client.transport = [f"--cert-dir={certificates}"]
            case Skopeo():
                client.transport = [f"--src-cert-dir={certificates}"]
            case _:
                link = DOCKERS / host
                DOCKERS.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(certificates)
                self._links.append(link)
