"""Temporary customer's registry for `make demo`: one small runnable image, protected by HTTP Basic.

The image contains this machine's shell with its libraries, and a layer with a greeting.
Usage: demo_upstream.py PORT USER PASSWORD
"""

import asyncio
import gzip
import hashlib
import hmac
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from base64 import b64encode
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
GREETING = b"Hello from an image that was never stored in plaintext.\n"


def shell_files() -> dict[str, bytes]:
    """Return the shell and the shared libraries that it loads."""
    shell = Path(shutil.which("sh") or "/bin/sh").resolve()
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=False).stdout
    libraries = re.findall(r"(/\S+) \(0x", linked)
    return {"bin/sh": shell.read_bytes()} | {path.lstrip("/"): Path(path).read_bytes() for path in libraries}


def layer(files: dict[str, bytes]) -> tuple[bytes, str]:
    """Return a gzip-compressed tar of files, and the digest of the tar."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0), digest(plain.getvalue())


def digest(content: bytes) -> str:
    """Return the sha256 digest in OCI format."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, content: bytes) -> dict[str, object]:
    """Describe a blob (OCI image-spec, descriptor.md)."""
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def image() -> tuple[bytes, dict[str, bytes]]:
    """Return the image's manifest, and its blobs by digest."""
    layers, diff_ids = zip(*map(layer, (shell_files(), {"greeting": GREETING})), strict=True)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh", "-c", "while read line; do echo $line; done < /greeting"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, content) for content in layers],
    }
    return json.dumps(manifest).encode(), {digest(content): content for content in (config, *layers)}


def main() -> None:
    """Serve until stopped."""
    port, user, password = sys.argv[1:]
    expected = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    manifest, blobs = image()

    @web.middleware
    async def basic(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get("Authorization", ""), expected):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="customer"'})
        return await handler(request)

    async def version(_request: web.Request) -> web.Response:
        return web.json_response({})

    async def get_manifest(_request: web.Request) -> web.Response:
        return web.Response(body=manifest, content_type=MANIFEST)

    async def get_blob(request: web.Request) -> web.StreamResponse:
        content = blobs.get(request.match_info["digest"])
        if content is None:
            raise web.HTTPNotFound
        response = web.StreamResponse()
        response.content_length = len(content)
        await response.prepare(request)
        for start in range(0, len(content), 16 << 10):
            await response.write(content[start : start + (16 << 10)])
            await asyncio.sleep(0.03)  # slow enough to show progress
        return response

    app = web.Application(middlewares=[basic])
    app.router.add_get("/v2/", version)
    app.router.add_get("/v2/shop/hello/manifests/{reference}", get_manifest)
    app.router.add_get("/v2/shop/hello/blobs/{digest}", get_blob)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None)


if __name__ == "__main__":
    main()
