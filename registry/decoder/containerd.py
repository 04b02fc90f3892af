"""Configuration of containerd for the layer decoder."""

import json
from typing import Final

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_ENCRYPTED: Final = "+encrypted"
# containerd's own ids, so that its default processors are replaced. CRI passes the payload to these two ids
# only, so gzip's gets zstd too: containerd detects the compression of what it returns.
_PROCESSORS: Final = {
    "io.containerd.ocicrypt.decoder.v1.tar": ("", ("",)),
    "io.containerd.ocicrypt.decoder.v1.tar.gzip": ("+gzip", ("+gzip", "+zstd")),
}


def stream_processors_toml(decoder: str, content_store: str, key_folder: str) -> str:
    """Return a configuration file for containerd 1.6 and later, for its `imports`.

    Args:
        decoder: Absolute path of `crisper-layer-decoder`.
        content_store: Folder `io.containerd.content.v1.content` in containerd's root.
        key_folder: Folder of the node's private keys.
    """
    lines = ["version = 2", ""]
    for name, (returned, accepted) in _PROCESSORS.items():
        types = [f"{_LAYER}{compression}{_ENCRYPTED}" for compression in accepted]
        lines += [
            f"[stream_processors.{_quote(name)}]",
            f"  accepts = [{', '.join(map(_quote, types))}]",
            f"  returns = {_quote(_LAYER + returned)}",
            f"  path = {_quote(decoder)}",
            f"  args = [{_quote(content_store)}, {_quote(key_folder)}]",
            "",
        ]
    return "\n".join(lines)


def _quote(text: str) -> str:
    """Return a basic string of TOML, which escapes like JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
