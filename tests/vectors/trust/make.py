"""Signatures that cosign 2 and 3 made with keys of each kind, for tests that do not build these programs.

`python -m tests.vectors.trust.make` makes them again, with new keys.
"""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.distribution import OCI_INDEX, OCI_MANIFEST, docker_registry, make_image, push
from tests.support.signing import Cosign, PrivateKey, encoded, public_pem

FILE: Final = Path(__file__).with_name("cosign.json")
KEYS: Final[dict[str, PrivateKey]] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "RSA 3072": rsa.generate_private_key(65537, 3072),
}


async def _read(host: str, kind: str, reference: str) -> bytes:
    headers = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"http://{host}/v2/acme/app/{kind}/{reference}") as answer,
    ):
        assert answer.status == 200
        return await answer.read()


async def _sign(cosign: Cosign, host: str, name: str, key: PrivateKey) -> dict[str, Any]:
    image = make_image([f"{cosign.version} {name}".encode()])
    await push(host, "acme/app", "v1", image, {})
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (cosign.folder / "plain.pem").write_bytes(pem)
    prefix = f"{name.replace(' ', '-')}-{cosign.version}"
    await asyncio.to_thread(cosign.import_key, "plain.pem", prefix)
    await asyncio.to_thread(cosign.sign, prefix, f"{host}/acme/app@{image.root}")
    made: dict[str, Any] = {
        "cosign": cosign.version,
        "kind": name,
        "key": public_pem(key),
        "manifest": encoded(image.root_bytes),
    }
    tag = image.root.replace(":", "-")
    if cosign.version == 2:
        manifest = await _read(host, "manifests", f"{tag}.sig")
        payload = json.loads(manifest)["layers"][0]["digest"]
        return made | {"signature": encoded(manifest), "blob": encoded(await _read(host, "blobs", payload))}
    [referrer] = json.loads(await _read(host, "manifests", tag))["manifests"]
    bundle = json.loads(await _read(host, "manifests", referrer["digest"]))["layers"][0]["digest"]
    return made | {"blob": encoded(await _read(host, "blobs", bundle))}


async def main() -> None:
    """Write the vectors."""
    with TemporaryDirectory() as folder:
        async with docker_registry(Path(folder)) as host:
            cosigns = [Cosign(version, Path(folder)) for version in (2, 3)]
            vectors = [
                await _sign(cosign, host, name, key) for cosign in cosigns for name, key in KEYS.items()
            ]
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
