"""Signatures of images as cosign makes them, and the cosign programs themselves."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.built_programs import go_program
from tests.support.distribution import OCI_INDEX, OCI_MANIFEST, Image, descriptor, digest_of

EMPTY = "application/vnd.oci.empty.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(key: PrivateKey, data: bytes, hash_: hashes.HashAlgorithm | None = None) -> bytes:
    hash_ = hash_ or hashes.SHA256()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hash_)
    return key.sign(data, ec.ECDSA(hash_))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def simple_payload(digest: str, **critical: object) -> bytes:
    document = {
        "critical": {
            "identity": {"docker-reference": "registry.example/acme/app"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
            **critical,
        },
        "optional": None,
    }
    return json.dumps(document).encode()


def statement(digest: str, predicate: object = SIGN, **more: object) -> bytes:
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {digest.partition(":")[0]: digest.partition(":")[2]}}],
        "predicateType": predicate,
        "predicate": {},
        **more,
    }
    return json.dumps(document).encode()


def pae(payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def bundle(key: PrivateKey, payload: bytes, **changes: object) -> dict[str, Any]:
    """Return cosign 3's bundle of a statement."""
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "any"}},
        "dsseEnvelope": {
            "payload": encoded(payload),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": encoded(sign(key, pae(payload)))}],
        },
        **changes,
    }


def add_simple(of: str, *signatures: tuple[bytes, bytes]) -> dict[str, Image]:
    """Return the manifest of cosign 2 for payloads and their signatures, by the tag under which it is."""
    config = b"{}"
    layers = [
        descriptor(PAYLOAD, payload, annotations={"dev.cosignproject.cosign/signature": encoded(made)})
        for payload, made in signatures
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    }
    data = json.dumps(document).encode()
    blobs = {digest_of(blob): blob for blob in (config, *(payload for payload, _ in signatures))}
    return {
        f"{of.replace(':', '-')}.sig": Image(digest_of(data), {digest_of(data): (OCI_MANIFEST, data)}, blobs)
    }


def referrer(subject: bytes, kind: str, *blobs: tuple[str, bytes]) -> Image:
    """Return the artifact of one signature that refers to a manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [descriptor(media_type, blob) for media_type, blob in blobs],
        "subject": descriptor(OCI_MANIFEST, subject),
    }
    data = json.dumps(document).encode()
    stored = {digest_of(blob): blob for blob in (b"{}", *(blob for _, blob in blobs))}
    return Image(digest_of(data), {digest_of(data): (OCI_MANIFEST, data)}, stored)


def listed(of: str, kinds: Mapping[str, str | None], *referrers: Image) -> dict[str, Image]:
    """Return the list of referrers of a digest, under the tag for registries without the API."""
    entries = [
        descriptor(media_type, data, **({"artifactType": kind} if (kind := kinds.get(each.root)) else {}))
        for each in referrers
        for media_type, data in each.manifests.values()
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    whole = Image(digest_of(index))
    for each in referrers:
        whole.manifests |= each.manifests
        whole.blobs |= each.blobs
    whole.manifests[whole.root] = (OCI_INDEX, index)
    return {of.replace(":", "-"): whole}


@dataclass(frozen=True)
class Cosign:
    """A version of the cosign program, and the folder in which it runs without network."""

    version: int
    folder: Path

    def key(self, name: str) -> str:
        """Generate the key pair `name`. Returns the public key in PEM."""
        self._run("generate-key-pair", f"--output-key-prefix={name}")
        return (self.folder / f"{name}.pub").read_text()

    def import_key(self, file: str, name: str) -> None:
        """Make the key pair `name` of a private key."""
        self._run("import-key-pair", f"--key={file}", f"--output-key-prefix={name}")

    def sign(self, key: str, reference: str, *options: str) -> None:
        offline = ["--tlog-upload=false", "--allow-http-registry", "--yes"]
        if self.version == 3:
            offline.append("--use-signing-config=false")
        self._run("sign", f"--key={key}.key", *offline, *options, reference)

    def refer(self, key: str, reference: str) -> None:
        """Sign as cosign 2 does experimentally: with a referrer instead of a tag."""
        self.sign(key, reference, "--registry-referrers-mode=oci-1-1")

    def attest(
        self,
        key: str,
        reference: str,
        predicate: object = None,
        kind: str = "https://example.com/scan",
    ) -> None:
        """Attest a predicate, of a type that cosign knows or of a URI."""
        (self.folder / "predicate.json").write_text(json.dumps(predicate or {}))
        offline = ["--tlog-upload=false", "--allow-http-registry", "--yes"]
        if self.version == 3:
            offline.append("--use-signing-config=false")
        described = ["--predicate=predicate.json", f"--type={kind}"]
        self._run("attest", f"--key={key}.key", *offline, *described, reference)

    def attach_sbom(self, document: str, kind: str, reference: str) -> None:
        """Attach a bill of materials as it is; cosign 2 only."""
        (self.folder / "bill").write_text(document)
        options = ["--sbom=bill", f"--type={kind}", "--input-format=json", "--allow-http-registry"]
        self._run("attach", "sbom", *options, reference)

    def verifies(self, key: str, reference: str, logins: Mapping[str, str] | None = None) -> bool:
        """Return whether cosign itself accepts the signature.

        Args:
            logins: Basic credentials in base64, by registry.
        """
        auths = {host: {"auth": login} for host, login in (logins or {}).items()}
        (self.folder / "config.json").write_text(json.dumps({"auths": auths}))
        options = ["--insecure-ignore-tlog", "--allow-http-registry"]
        return self._start("verify", f"--key={key}.pub", *options, reference).returncode == 0

    def _run(self, *arguments: str) -> None:
        done = self._start(*arguments)
        assert done.returncode == 0, done.stderr

    def _start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        folder = str(self.folder)
        home = {
            "HOME": folder,
            "DOCKER_CONFIG": folder,
            "COSIGN_PASSWORD": "throwaway",
            "COSIGN_EXPERIMENTAL": "1",
            "PATH": os.environ["PATH"],
        }
        command: Sequence[str] = [str(go_program(f"cosign{self.version}")), *arguments]
        return subprocess.run(
            command, env=home, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
