"""Container runtimes of nodes."""

from enum import StrEnum


class Runtime(StrEnum):
    """Container runtime of a node, which decides how it can decrypt layers (docs/nodes.md)."""

    CONTAINERD = "containerd"
    CRI_O = "cri-o"
    DOCKER = "docker"
    PODMAN = "podman"
    PROXY = "proxy"  # `crisper node proxy`, for Docker
    SKOPEO = "skopeo"
