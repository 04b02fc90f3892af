"""The commands that pull an image on a node, ready to paste. Pure."""

import shlex
from dataclasses import dataclass

from auth.ports import Binding

NODE_SECRET = "CRISPER_NODE_SECRET"  # noqa: S105 (the variable's name)


@dataclass(frozen=True, slots=True)
class Command:
    """What to paste for one client."""

    client: str
    text: str


@dataclass(frozen=True, slots=True)
class Pull:
    """What a node needs for one pull.

    Attributes:
        reference: What to pull; clients log in to the host that it begins with.
        token: The pull token, in the clear.
        plain_http: Whether the registry is reached without TLS.
    """

    reference: str
    node_id: str
    token: str
    binding: Binding
    plain_http: bool = False

    @property
    def _password(self) -> str:
        """The password within double quotes; a node's own secret is read from its environment."""
        return self.token + (f"~${NODE_SECRET}" if self.binding is Binding.SECRET else "")

    def commands(self) -> tuple[Command, ...]:
        """Return the commands, the most common client first.

        Passwords go in on standard input where the client takes them so; `ctr` takes them only as an
        argument, which others on the node can see for as long as it runs.
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
