"""An upstream registry with huge images, whose layers are generated while they are read.

Each layer is a tar with one file of incompressible bytes, an AES-CTR keystream. Any range of it can be
computed in microseconds without memory, and its digest is real. As a program, it serves `/v2/big/image` on a
free port and prints one line of JSON when it is ready; `/sent` returns what was fetched.
"""

import argparse
import asyncio
import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CHUNK_BYTES = 1 << 20
SECTOR_BYTES = 512
END_OF_ARCHIVE = bytes(2 * SECTOR_BYTES)
REPOSITORY = "big/image"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class RandomLayer:
    """A tar stream with one file of `size_bytes` pseudo-random bytes, chosen by `seed`."""

    def __init__(self, seed: int, size_bytes: int) -> None:
        entry = tarfile.TarInfo(f"data-{seed}.bin")
        entry.size = self._data_bytes = size_bytes - size_bytes % SECTOR_BYTES
        self._head = entry.tobuf(tarfile.GNU_FORMAT)
        self._key = hashlib.sha256(f"layer {seed}".encode()).digest()
        self.size_bytes = len(self._head) + self._data_bytes + len(END_OF_ARCHIVE)
        self.digest = ""

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` bytes of the layer, starting at `start`."""
        stop = min(start + length, self.size_bytes)
        data_start = len(self._head)
        data_stop = data_start + self._data_bytes
        parts = [
            self._head[start:stop],
            self._keystream(max(start, data_start) - data_start, min(stop, data_stop) - data_start),
            END_OF_ARCHIVE[max(start - data_stop, 0) : max(stop - data_stop, 0)],
        ]
        return b"".join(parts)

    def _keystream(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""
        block, skip = divmod(start, 16)
        counter = modes.CTR(block.to_bytes(16, "big"))
        stream = Cipher(algorithms.AES256(self._key), counter).encryptor()
        return stream.update(bytes(skip + stop - start))[skip:]

    def measure(self) -> None:
        """Compute `digest` by reading the layer once."""
        hasher = hashlib.sha256()
        for start in range(0, self.size_bytes, CHUNK_BYTES):
            hasher.update(self.read(start, CHUNK_BYTES))
        self.digest = f"sha256:{hasher.hexdigest()}"


class RandomImage:
    """Config and manifest around random layers; documents by digest, layers by digest."""

    def __init__(self, layers: Sequence[RandomLayer]) -> None:
        self.layers = {layer.digest: layer for layer in layers}
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(self.layers)},
        }
        self.config = json.dumps(config).encode()
        self.config_digest = _digest(self.config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.config_digest,
                "size": len(self.config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer.digest,
                    "size": layer.size_bytes,
                }
                for layer in layers
            ],
        }
        self.manifest = json.dumps(manifest).encode()
        self.digest = _digest(self.manifest)
        self.size_bytes = sum(layer.size_bytes for layer in layers)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_images(size_bytes: int, layers: int, images: int = 1) -> list[RandomImage]:
    """Build images of about `size_bytes` each in `layers` equal layers, the first of which they share."""
    made = {
        (image, place): RandomLayer(image * layers + place, size_bytes // layers)
        for image in range(images)
        for place in range(layers)
        if place or not image
    }
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(RandomLayer.measure, made.values()))
    return [
        RandomImage([made[image if place else 0, place] for place in range(layers)])
        for image in range(images)
    ]


class Registry:
    """The `/v2/` endpoints that an importer uses."""

    def __init__(self, images: Sequence[RandomImage]) -> None:
        numbered = {str(number): image for number, image in enumerate(images)}
        self._images = {"latest": images[0]} | numbered | {image.digest: image for image in images}
        self._layers = {digest: layer for image in images for digest, layer in image.layers.items()}
        self._configs = {image.config_digest: image.config for image in images}
        self._sent: Counter[str] = Counter()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/", self._base)
        app.router.add_get("/sent", self._tell)
        app.router.add_get(f"/v2/{REPOSITORY}/manifests/{{reference}}", self._manifest)
        app.router.add_get(f"/v2/{REPOSITORY}/blobs/{{digest}}", self._blob)
        return app

    async def _base(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _tell(self, _: web.Request) -> web.Response:
        """Return how many bytes of each layer were written to a connection."""
        return web.json_response(self._sent)

    async def _manifest(self, request: web.Request) -> web.Response:
        image = self._images.get(request.match_info["reference"])
        if image is None:
            raise web.HTTPNotFound
        headers = {"Docker-Content-Digest": image.digest}
        return web.Response(body=image.manifest, content_type=MANIFEST_TYPE, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        headers = {"Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        if digest in self._configs:
            return web.Response(body=self._configs[digest], headers=headers)
        layer = self._layers.get(digest)
        if layer is None:
            raise web.HTTPNotFound
        start, stop = _range(request, layer.size_bytes)
        partial = "Range" in request.headers
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{layer.size_bytes}"
        response.content_type = "application/octet-stream"
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == "GET":
            for at in range(start, stop, CHUNK_BYTES):
                data = await asyncio.to_thread(layer.read, at, min(CHUNK_BYTES, stop - at))
                await response.write(data)
                self._sent[digest] += len(data)
        await response.write_eof()
        return response


def _range(request: web.Request, size_bytes: int) -> tuple[int, int]:
    """Return the first position of a single range and the one after its last (RFC 9110, section 14)."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if asked is None:
        return 0, size_bytes
    start, last = int(asked[1]), int(asked[2] or size_bytes - 1)
    if start >= size_bytes or last < start:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size_bytes}"})
    return start, min(last + 1, size_bytes)


async def _serve(images: Sequence[RandomImage]) -> None:
    runner = web.AppRunner(Registry(images).app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    ready = {"reference": f"127.0.0.1:{port}/{REPOSITORY}:latest", "port": port, "digest": images[0].digest}
    layers = {digest: layer.size_bytes for image in images for digest, layer in image.layers.items()}
    print(json.dumps({**ready, "size_bytes": images[0].size_bytes, "layers": layers}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-gb", type=float, required=True)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--images", type=int, default=1, help="tags 0, 1 ...; they share their first layer")
    options = parser.parse_args()
    asyncio.run(_serve(make_images(int(options.size_gb * 1e9), options.layers, options.images)))


if __name__ == "__main__":
    main()
