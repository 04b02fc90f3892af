"""Upstreams made of Debian's docker-registry, without authentication, with htpasswd or a token server."""

import asyncio
import base64
import hashlib
import io
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.processes import free_port

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Image:
    """Documents and blobs of an image, by digest; `root` is what its tag names."""

    root: str
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def root_bytes(self) -> bytes:
        return self.manifests[self.root][1]


def descriptor(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def make_image(
    layers: list[bytes], *, docker: bool = False, architecture: str = "amd64", salt: str = ""
) -> Image:
    """Write an image of one platform, in OCI's or Docker's media types."""
    manifest_type, config_type, layer_type = (
        (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER) if docker else (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
    )
    config = json.dumps(
        {
            "os": "linux",
            "architecture": architecture,
            "config": {"Labels": {"salt": salt}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": descriptor(config_type, config),
            "layers": [descriptor(layer_type, layer) for layer in layers],
        }
    ).encode()
    blobs = {digest_of(data): data for data in (config, *layers)}
    return Image(digest_of(manifest), {digest_of(manifest): (manifest_type, manifest)}, blobs)


def make_index(images: dict[str, Image], *, attested: bool = False, unnamed: bool = False) -> Image:
    """Write an index over images by platform, `linux/arm64/v8`, attested or unnamed if wanted."""
    entries: list[dict[str, object]] = []
    manifests: dict[str, tuple[str, bytes]] = {}
    blobs: dict[str, bytes] = {}
    if attested:
        statement = make_image([], salt="attestation")
        media_type, data = statement.manifests[statement.root]
        annotations = {"vnd.docker.reference.type": "attestation-manifest"}
        platform = {"os": "unknown", "architecture": "unknown"}
        entries.append(descriptor(media_type, data, platform=platform, annotations=annotations))
        manifests |= statement.manifests
        blobs |= statement.blobs
    for name, image in images.items():
        media_type, data = image.manifests[image.root]
        platform = dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))
        entries.append(descriptor(media_type, data, **({} if unnamed else {"platform": platform})))
        manifests |= image.manifests
        blobs |= image.blobs
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    manifests[digest_of(index)] = (OCI_INDEX, index)
    return Image(digest_of(index), manifests, blobs)


async def push(host: str, repository: str, tag: str, image: Image, headers: dict[str, str]) -> None:
    """Push over the distribution API, children before parents."""
    base = f"http://{host}/v2/{repository}"
    async with aiohttp.ClientSession(headers=headers) as session:
        for digest, data in image.blobs.items():
            async with session.post(f"{base}/blobs/uploads/") as started:
                assert started.status == 202, await started.text()
                location = urljoin(base, started.headers["Location"])
            at = f"{location}{'&' if '?' in location else '?'}digest={digest}"
            async with session.put(at, data=io.BytesIO(data)) as stored:
                assert stored.status == 201, await stored.text()
        for digest, (media_type, data) in image.manifests.items():
            names = [digest, tag] if digest == image.root else [digest]
            for name in names:
                kind = {"Content-Type": media_type}
                async with session.put(f"{base}/manifests/{name}", data=data, headers=kind) as stored:
                    assert stored.status == 201, await stored.text()


@asynccontextmanager
async def docker_registry(folder: Path, auth: dict[str, object] | None = None) -> AsyncIterator[str]:
    """Run docker-registry on a free port of the loopback; yield its host and port."""
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(8)},
    }
    if auth is not None:
        config["auth"] = auth
    path = folder / "config.yml"
    path.write_text(json.dumps(config))
    log = (folder / "registry.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        "docker-registry", "serve", str(path), stdout=log, stderr=log
    )
    try:
        await _answers(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
        log.close()


async def htpasswd(folder: Path, username: str, password: str) -> dict[str, object]:
    """Write a password file with apache2-utils; return the registry's auth section."""
    path = folder / "htpasswd"
    process = await asyncio.create_subprocess_exec(
        "htpasswd", "-iBc", str(path), username, stdin=-1, stdout=-3, stderr=-3
    )
    await process.communicate(password.encode())
    return {"htpasswd": {"realm": "upstream", "path": str(path)}}


async def _answers(port: int) -> None:
    deadline = time.monotonic() + 20
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/v2/"):
                    return
            except aiohttp.ClientError:
                assert time.monotonic() < deadline, "docker-registry does not start"
                await asyncio.sleep(0.05)


class TokenServer:
    """A realm after docs/spec/auth/token.md; docker-registry trusts its certificate."""

    def __init__(self, folder: Path, username: str, password: str) -> None:
        self.exchanges: list[dict[str, str]] = []
        self.expires_in = 300
        self.realm = ""
        self._folder = folder
        self._basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        self._certificate = builder.sign(self._key, SHA256())

    @property
    def auth(self) -> dict[str, object]:
        """The registry's auth section; `realm` must be known before."""
        bundle = self._folder / "issuer.pem"
        bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))
        return {
            "token": {
                "realm": self.realm,
                "service": "upstream",
                "issuer": "issuer",
                "rootcertbundle": str(bundle),
            }
        }

    def token(self, repository: str, actions: list[str], expires_in: int | None = None) -> str:
        now = int(time.time())
        claims = {
            "iss": "issuer",
            "aud": "upstream",
            "sub": "",
            "iat": now,
            "nbf": now - 10,
            "exp": now + (expires_in or self.expires_in),
            "jti": secrets.token_hex(8),
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        }
        chain = [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()]
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"x5c": chain})

    async def answer(self, request: web.Request) -> web.Response:
        self.exchanges.append(dict(request.query))
        if request.headers.get("Authorization") != self._basic:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        _, repository, actions = request.query["scope"].split(":")
        token = self.token(repository, actions.split(","))
        return web.json_response({"access_token": token, "expires_in": self.expires_in})


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """Serve an aiohttp application on a free port of the loopback; yield its host and port."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"127.0.0.1:{port}"
    finally:
        await runner.cleanup()
