"""One pull token's image as a client of the proxy sees it: with its original manifest and layers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.decoder.keys import KeyFolder
from registry.errors import DocumentError, RegistryRefusedError
from registry.node_proxy.layers import EncryptedBlob, match_layers, match_manifests
from registry.node_proxy.registry_session import RegistrySession
from registry.oci.documents import Index, Manifest, parse_document
from storage.digest import Digest

_ROOT = "latest"  # every session's image has this tag


@dataclass(frozen=True, slots=True)
class OriginalDocument:
    """A manifest or an index, as it was imported.

    Attributes:
        manifest: What it contains, if it is the manifest of an image with encrypted layers.
    """

    digest: Digest
    media_type: str
    body: bytes
    manifest: Manifest | None = None


class Pull:
    """Original documents of a session's image, and its encrypted layers.

    Args:
        session: The token's session at the registry.
        key_folder: Folder of the node's private keys.
    """

    def __init__(self, session: RegistrySession, key_folder: Path) -> None:
        self.session = session
        self._key_folder = key_folder
        self._documents: dict[Digest, OriginalDocument] = {}
        self._named: dict[str, Digest] = {}
        self._encrypted: dict[Digest, Digest] = {}
        self._layers: dict[Digest, EncryptedBlob] = {}
        self._loading = asyncio.Lock()

    @property
    def layers(self) -> Mapping[Digest, EncryptedBlob]:
        """Encrypted layers of the manifests that were loaded, by the digests of the original ones."""
        return self._layers

    async def document(self, reference: str) -> OriginalDocument:
        """Return a document by tag or digest.

        Raises:
            DecoderError: No key of this node opens a layer.
            DigestError: The reference contains an invalid digest.
            DocumentError: The registry's documents do not match.
            RegistryRefusedError: The session may not have it, or it does not exist.
            RegistryUnreachableError: The registry does not answer.
        """
        async with self._loading:
            await self._load_root()
            if ":" not in reference:
                return await self._by_name(reference)
            digest = Digest.parse(reference)
            if digest not in self._documents:
                await self._load(digest, str(self._encrypted.get(digest, digest)))
            return self._documents[digest]

    async def layer(self, digest: Digest) -> EncryptedBlob | None:
        """Return the encrypted layer for an original one; None if no layer with this digest is encrypted.

        A client that continues a pull after a restart of the proxy asks for no manifest first.
        """
        async with self._loading:
            await self._load_root()
            for original, encrypted in tuple(self._encrypted.items()):
                if digest in self._layers:
                    break
                if original not in self._documents:
                    await self._load_platform(original, encrypted)
            return self._layers.get(digest)

    async def _load_root(self) -> None:
        root = await self._by_name(_ROOT)
        if root.manifest is None and not self._encrypted:
            raise RegistryRefusedError(
                "The token is for unencrypted layers, which this proxy does not pull. Mint it with the "
                "encryption `required`, and enroll the node with `--runtime proxy`."
            )

    async def _load_platform(self, original: Digest, encrypted: Digest) -> None:
        try:
            await self._load(original, str(encrypted))
        except RegistryRefusedError as error:
            if not error.is_absent:  # an index may name manifests that were not imported
                raise

    async def _by_name(self, name: str) -> OriginalDocument:
        if name not in self._named:
            self._named[name] = await self._load(None, name)
        return self._documents[self._named[name]]

    async def _load(self, expected: Digest | None, reference: str) -> Digest:
        """Load the document that the registry has for a reference. Returns the digest of the original."""
        answer = await self.session.document(f"manifests/{reference}")
        if ":" in reference and not Digest.parse(reference).matches(answer.body):
            raise DocumentError(f"the registry sent another document than {reference}")
        if answer.plaintext is None:  # a signature or another attachment
            document = OriginalDocument(expected or Digest.of(answer.body), answer.media_type, answer.body)
        else:
            document = await self._original(Digest.parse(answer.plaintext), answer.body)
        if expected is not None and document.digest != expected:
            raise DocumentError(f"the registry sent another document than {expected}")
        self._documents[document.digest] = document
        return document.digest

    async def _original(self, digest: Digest, encrypted: bytes) -> OriginalDocument:
        """Fetch the document before encryption, and match it with the encrypted one."""
        body = (await self.session.document(f"blobs/{digest}")).body
        if not digest.matches(body):
            raise DocumentError(f"the registry sent another document than {digest}")
        parsed = parse_document(body)
        if isinstance(parsed, Index):
            self._encrypted.update(match_manifests(parsed, encrypted))
            return OriginalDocument(digest, parsed.media_type, body)
        keys = await asyncio.to_thread(KeyFolder, str(self._key_folder))
        self._layers.update(await asyncio.to_thread(match_layers, parsed, encrypted, keys))
        return OriginalDocument(digest, parsed.media_type, body, parsed)
