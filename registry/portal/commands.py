"""Shell commands that pull an image on a node. No I/O."""

import shlex
from dataclasses import dataclass

from auth.ports import Binding

NODE_SECRET = "CRISPER_NODE_SECRET"  # noqa: S105 (name of a variable)


@dataclass(frozen=True, slots=True)
class Command:
    """Shell command for one client."""

    client: str
    text: str


@dataclass(frozen=True, slots=True)
class Pull:
    """Data for one pull on a node.

    Attributes:
        reference: Image reference; clients log in to its host.
        token: Pull token in plain text.
        plain_http: Whether the registry is reached without TLS.
    """

    reference: str
    node_id: str
    token: str
    binding: Binding
    plain_http: bool = False

    @property
    def _password(self) -> str:
        """Password for use within double quotes; the shell inserts the node's secret from its environment."""
        return self.token + (f"~${NODE_SECRET}" if self.binding is Binding.SECRET else "")

    def commands(self) -> tuple[Command, ...]:
        """Return the commands, the most common client first.

        Passwords are passed on standard input if the client supports it. `ctr` supports only an argument,
        which other users of the node can see while it runs.
        """
        plain = self.plain_http
        return (
            Command("docker", self._login_and_pull("docker")),
            Command("ctr", self._ctr("ctr images pull --plain-http" if plain else "ctr images pull")),
            Command("podman", self._login_and_pull("podman", " --tls-verify=false" if plain else "")),
            Command("nerdctl", self._login_and_pull("nerdctl --insecure-registry" if plain else "nerdctl")),
        )

    def _login_and_pull(self, program: str, options: str = "") -> str:
        host = shlex.quote(self.reference.partition("/")[0])
        node, reference = shlex.quote(self.node_id), shlex.quote(self.reference)
        return (
            f'printf %s "{self._password}" |\n'
            f"  {program} login{options} --username {node} --password-stdin {host} &&\n"
            f"  {program} pull{options} {reference}"
        )

    def _ctr(self, program: str) -> str:
        return f'{program} \\\n  --user "{self.node_id}:{self._password}" \\\n  {shlex.quote(self.reference)}'
