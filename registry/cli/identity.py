"""A node's certificate on the node itself: its files, and the exchanges that make and renew it.

```
<root>/etc/crisper/nodes/<host>/                    0700
  node.json   where and as whom it was enrolled
  node.key    0600, made here and sent nowhere
  node.crt    replaced by each renewal
  ca.crt      who signed the registry's own certificate; absent when the system trusts it
<root>/etc/docker/certs.d/<host>/                   links to them, for Docker
<root>/etc/containers/certs.d/<host>/               links to them, for Podman and skopeo
<root>/etc/containerd/certs.d/<host>/hosts.toml     names them, for containerd
```

The key stays when the certificate is renewed: a client that reads both meanwhile gets a pair.
"""

import json
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auth.secret import Secret
from registry.datadir import write_secret
from registry.errors import ConfigError, ReferenceFormatError, RegistryError
from registry.hosts import RegistryAddress, reference_host

_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
_NODES = Path("etc/crisper/nodes")
_LINKED = (Path("etc/docker/certs.d"), Path("etc/containers/certs.d"))
_CONTAINERD = Path("etc/containerd/certs.d")
_MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """One registry that this machine is a node of.

    Attributes:
        root: `/`, or the root of a file system that is being prepared.
        host: `host[:port]` of the registry, as image references have it.
    """

    root: Path
    url: str
    node_id: str
    host: str

    @classmethod
    def of(cls, root: Path, url: str, node_id: str) -> "NodeIdentity":
        """Name an identity by the registry's URL. Raises ConfigError: the URL is not https://host[:port]."""
        try:
            address = RegistryAddress.parse(url).require_referable()
        except ReferenceFormatError as error:
            raise ConfigError(f"give the registry's address as https://HOST[:PORT]: {error}") from None
        if address.scheme != "https":
            raise ConfigError("give the registry's address as https://HOST[:PORT]: a node needs TLS to enrol")
        return cls(root, address.url, node_id, address.host)

    @classmethod
    def enrolled(cls, root: Path) -> list["NodeIdentity"]:
        """Read every identity that was enrolled under `root`."""
        found = sorted((root / _NODES).glob("*/node.json"))
        return [cls(root, host=path.parent.name, **json.loads(path.read_text())) for path in found]

    @classmethod
    def at(cls, root: Path, host: str) -> "NodeIdentity | None":
        """Return the identity towards one registry, if this machine has it. `host` is `host[:port]`."""
        asked = reference_host(host)
        return next((found for found in cls.enrolled(root) if reference_host(found.host) == asked), None)

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.root / _NODES / self.host

    @property
    def certificate(self) -> x509.Certificate:
        """Its present certificate. Raises ConfigError: there is none."""
        try:
            return x509.load_pem_x509_certificate((self.folder / "node.crt").read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{self.folder / 'node.crt'} is no certificate; enrol again") from None

    @property
    def due(self) -> bool:
        """Whether half of its certificate's life is over."""
        made, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return datetime.now(UTC) > made + (ends - made) / 2

    async def enrol(self, secret: Secret, ca: bytes | None) -> None:
        """Make a key where there is none, get a certificate for it, and tell every client of it.

        Args:
            secret: The enrolment secret.
            ca: PEM of who signed the registry's own certificate; None when the system trusts it.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ca is not None:
            _replace(self.folder / "ca.crt", ca)
        key = self._key()
        await self._request(key, self._tls(), {"Authorization": f"Bearer {secret.reveal()}"})
        _replace(self.folder / "node.json", json.dumps({"url": self.url, "node_id": self.node_id}).encode())
        self._tell_clients()

    async def renew(self) -> None:
        """Replace the certificate, which must still be valid. Raises RegistryError."""
        await self._request(self._key(), self.client_tls(), {})

    def client_tls(self) -> ssl.SSLContext:
        """Return a context that shows the certificate. Raises ConfigError: there is none with its key."""
        tls = self._tls()
        try:
            tls.load_cert_chain(self.folder / "node.crt", self.folder / "node.key")
        except (OSError, ssl.SSLError):
            raise ConfigError(f"{self.folder} holds no certificate with its key; enrol again") from None
        return tls

    def _key(self) -> ec.EllipticCurvePrivateKey:
        path = self.folder / "node.key"
        if not path.exists():
            fresh = ec.generate_private_key(ec.SECP256R1())
            pem = fresh.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_secret(path, pem)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{path} is no key of ours; remove it and enrol again")
        return key

    def _tls(self) -> ssl.SSLContext:
        ca = self.folder / "ca.crt"
        return ssl.create_default_context(cafile=ca if ca.exists() else None)

    async def _request(
        self, key: ec.EllipticCurvePrivateKey, tls: ssl.SSLContext, headers: dict[str, str]
    ) -> None:
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        answer = await _post(
            f"{self.url}/api/v1/nodes/{self.node_id}/certificate", {"csr": csr}, tls, headers
        )
        try:
            certificate = x509.load_pem_x509_certificate(str(answer["certificate"]).encode())
        except (KeyError, ValueError):
            raise RegistryError(f"{self.url} did not answer with a certificate") from None
        if certificate.public_key() != key.public_key():
            raise RegistryError(f"{self.url} answered with a certificate for another key")
        _replace(self.folder / "node.crt", certificate.public_bytes(serialization.Encoding.PEM))

    def _tell_clients(self) -> None:
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
        _replace(folder / "hosts.toml", self._hosts_toml(os.path.relpath(self.folder, folder)).encode())

    def _hosts_toml(self, to_files: str) -> str:
        """Write containerd's configuration of this host; it takes paths from the file's own folder.

        The keys stand at the top, as the server's own: containerd 1.6 reads no brackets in the name
        of a `[host]` table, so it could not name an IPv6 address.
        """
        lines = [
            f'server = "{self.url}"',
            'capabilities = ["pull", "resolve"]',
            f'client = [["{to_files}/node.crt", "{to_files}/node.key"]]',
        ]
        if (self.folder / "ca.crt").exists():
            lines.append(f'ca = "{to_files}/ca.crt"')
        return "\n".join(lines) + "\n"


async def _post(
    url: str, body: dict[str, str], tls: ssl.SSLContext, headers: dict[str, str]
) -> dict[str, object]:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(url, json=body, headers=headers, ssl=tls, allow_redirects=False) as response,
        ):
            status, text = response.status, await response.content.read(_MAX_ANSWER_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RegistryError(f"{url} cannot be reached: {error or type(error).__name__}") from None
    try:
        answer = json.loads(text.decode())
    except ValueError:
        answer = {}
    if status != 200 or not isinstance(answer, dict):  # noqa: PLR2004 (RFC 9110, section 15.3.1)
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise RegistryError(f"the registry answered {status}: {detail or 'nothing that says why'}")
    return answer


def _replace(path: Path, content: bytes) -> None:
    """Write a file that others may read, whole or not at all."""
    write_secret(path.with_name(f".{path.name}.new"), content)
    path.with_name(f".{path.name}.new").chmod(0o644)
    path.with_name(f".{path.name}.new").replace(path)
