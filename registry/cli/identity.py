"""Certificate of a node, on the node: its files, and the requests that obtain and renew it.

```
<root>/etc/crisper/nodes/<host>/                    0700
  node.json   registry URL, node id, platform and edge cache
  node.key    0600; created here, never sent
  node.crt    replaced at each renewal
  ca.crt      CA of the registry's own certificate; absent if the system trusts it
  encryption.json   state of the encryption keys (`registry.cli.encryption_keys`)
<root>/etc/docker/certs.d/<host>/                   symbolic links, for Docker
<root>/etc/containers/certs.d/<host>/               symbolic links, for Podman and skopeo
<root>/etc/containerd/certs.d/<host>/hosts.toml     configuration for containerd
```

A renewal keeps the key, so that a client that reads both files during the renewal gets a matching pair.
"""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auth.secret import Secret
from registry.cli.node_requests import Answer, send
from registry.datadir import write_atomically
from registry.errors import ConfigError, ReferenceFormatError, RegistryError
from registry.hosts import RegistryAddress, reference_host
from registry.model.edges import EDGE_HEADER, NO_EDGE

_NODES = Path("etc/crisper/nodes")
_LINKED = (Path("etc/docker/certs.d"), Path("etc/containers/certs.d"))
_CONTAINERD = Path("etc/containerd/certs.d")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Identity of this machine as a node of one registry.

    Attributes:
        root: `/`, or the root of a file system image.
        host: `host[:port]` of the registry, as in image references.
        platform: Platform that this machine reports when it enrolls; None if it is not known.
        edge: URL of an edge cache that the container clients ask first; None for no own choice.
    """

    root: Path
    url: str
    node_id: str
    host: str
    platform: str | None = None
    edge: str | None = None

    @classmethod
    def of(
        cls, root: Path, url: str, node_id: str, platform: str | None = None, edge: str | None = None
    ) -> "NodeIdentity":
        """Return the identity for a registry's URL. Raises ConfigError: a URL is not https://HOST[:PORT]."""
        try:
            address = RegistryAddress.parse(url).require_referable()
        except ReferenceFormatError as error:
            raise ConfigError(f"the registry's URL must be https://HOST[:PORT]: {error}") from None
        if address.scheme != "https":
            raise ConfigError("the registry's URL must be https://HOST[:PORT]: enrolment needs TLS")
        own_edge = _edge_url(edge, address.host) if edge else None
        return cls(root, address.url, node_id, address.host, platform, own_edge)

    @classmethod
    def enrolled(cls, root: Path) -> list["NodeIdentity"]:
        """Read all identities under `root`."""
        found = sorted((root / _NODES).glob("*/node.json"))
        return [cls(root, host=path.parent.name, **json.loads(path.read_text())) for path in found]

    @classmethod
    def at(cls, root: Path, host: str) -> "NodeIdentity | None":
        """Return the identity for the registry at `host[:port]`, or None if this machine has none."""
        asked = reference_host(host)
        return next((found for found in cls.enrolled(root) if reference_host(found.host) == asked), None)

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return self.root / _NODES / self.host

    @property
    def _api(self) -> str:
        return f"{self.url}/api/v1/nodes/{self.node_id}"

    @property
    def certificate(self) -> x509.Certificate:
        """Current certificate. Raises ConfigError: it is missing or invalid."""
        try:
            return x509.load_pem_x509_certificate((self.folder / "node.crt").read_bytes())
        except (OSError, ValueError):
            raise ConfigError(
                f"{self.folder / 'node.crt'} is not a certificate: enrol again with `crisper node enroll`"
            ) from None

    @property
    def due(self) -> bool:
        """Whether the certificate is past half of its lifetime."""
        made, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return datetime.now(UTC) > made + (ends - made) / 2

    async def enrol(self, secret: Secret, ca: bytes | None) -> None:
        """Create a key if there is none, get a certificate, and configure the container clients.

        Args:
            secret: Enrolment secret.
            ca: CA of the registry's own certificate, PEM; None if the system trusts it.

        Raises:
            RegistryError: The registry does not answer, or refuses the request.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ca is not None:
            write_atomically(self.folder / "ca.crt", ca, mode=0o644)
        key = self._key()
        await self._request(key, self._tls(), {"Authorization": f"Bearer {secret.reveal()}"})
        facts = {"url": self.url, "node_id": self.node_id, "platform": self.platform}
        facts |= {"edge": self.edge} if self.edge else {}
        write_atomically(self.folder / "node.json", json.dumps(facts).encode(), mode=0o644)
        self._configure_clients()

    async def renew(self) -> datetime:
        """Renew the certificate, which must still be valid. Returns the registry's time.

        Raises:
            RegistryError: As for `enrol`.
        """
        return await self._request(self._key(), self.client_tls(), {})

    async def announce(self, public_key: str, runtime: str | None) -> Answer:
        """Announce an encryption key to the registry, with the certificate. Raises RegistryError."""
        body = {"public_key": public_key} | ({"runtime": runtime} if runtime else {})
        return await send("PUT", f"{self._api}/encryption-key", body, self.client_tls())

    def client_tls(self) -> ssl.SSLContext:
        """Return a TLS context with the certificate. Raises ConfigError: certificate or key is missing."""
        tls = self._tls()
        try:
            tls.load_cert_chain(self.folder / "node.crt", self.folder / "node.key")
        except (OSError, ssl.SSLError):
            raise ConfigError(
                f"{self.folder} contains no certificate with its key: enrol again with `crisper node enroll`"
            ) from None
        return tls

    def _key(self) -> ec.EllipticCurvePrivateKey:
        path = self.folder / "node.key"
        if not path.exists():
            fresh = ec.generate_private_key(ec.SECP256R1())
            pem = fresh.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_atomically(path, pem)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(
                f"{path} is not a valid node key: remove it, and enrol again with `crisper node enroll`"
            )
        return key

    def _tls(self) -> ssl.SSLContext:
        ca = self.folder / "ca.crt"
        return ssl.create_default_context(cafile=ca if ca.exists() else None)

    async def _request(
        self, key: ec.EllipticCurvePrivateKey, tls: ssl.SSLContext, headers: Mapping[str, str]
    ) -> datetime:
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        # A server of an earlier version refuses the platform.
        body = {"csr": csr} | ({"platform": self.platform} if self.platform and headers else {})
        answer = await send("POST", f"{self._api}/certificate", body, tls, headers)
        try:
            certificate = x509.load_pem_x509_certificate(str(answer.document["certificate"]).encode())
        except (KeyError, ValueError):
            raise RegistryError(
                f"{self.url} answered without a certificate: check that the URL is a Crisper registry's"
            ) from None
        if certificate.public_key() != key.public_key():
            raise RegistryError(
                f"{self.url} answered with a certificate for another key: check that the URL is right"
            )
        write_atomically(
            self.folder / "node.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644
        )
        return answer.at

    def _configure_clients(self) -> None:
        links = {"client.cert": "node.crt", "client.key": "node.key", "ca.crt": "ca.crt"}
        for clients in _LINKED:
            folder = self.root / clients / self.host
            folder.mkdir(parents=True, exist_ok=True)
            for name, target in links.items():
                (folder / name).unlink(missing_ok=True)
                if (self.folder / target).exists():
                    (folder / name).symlink_to(os.path.relpath(self.folder / target, folder))
        folder = self.root / _CONTAINERD / self.host
        folder.mkdir(parents=True, exist_ok=True)
        content = self._hosts_toml(os.path.relpath(self.folder, folder)).encode()
        write_atomically(folder / "hosts.toml", content, mode=0o644)

    def _hosts_toml(self, to_files: str) -> str:
        """Return containerd's configuration for this host. Its paths are relative to the file's folder.

        The settings are at the top level, because containerd 1.6 cannot parse the brackets of an IPv6
        address in a table's name. It requires a `host` table, which may be empty.
        """
        lines = [
            f'server = "{self.url}"',
            'capabilities = ["pull", "resolve"]',
            f'client = [["{to_files}/node.crt", "{to_files}/node.key"]]',
        ]
        if (self.folder / "ca.crt").exists():
            lines.append(f'ca = "{to_files}/ca.crt"')
        if self.edge is None:
            return "\n".join([*lines, "[host]"]) + "\n"
        # containerd asks the edge for manifests by digest too, and gets 404. With the header, the registry
        # does not redirect to an edge that has failed.
        lines += ["[header]", f'{EDGE_HEADER} = ["{NO_EDGE}"]']
        lines += [f'[host."{self.edge}"]', 'capabilities = ["pull"]']
        return "\n".join(lines) + "\n"


def _edge_url(url: str, registry_host: str) -> str:
    """Return the URL of an edge in its canonical form. Raises ConfigError."""
    try:
        address = RegistryAddress.parse(url)
    except ReferenceFormatError as error:
        raise ConfigError(f"--edge must be https://HOST[:PORT]: {error}") from None
    if address.host.startswith("["):
        raise ConfigError("--edge must have a host name: containerd 1.6 cannot read an IPv6 address there")
    if address.host == registry_host:
        raise ConfigError("--edge is the registry itself: name the edge cache's host")
    return address.url
