"""Platforms (OCI image-spec, image-index.md, "platform") and the choice of one from an index."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}
_PLAIN_VARIANT: Final = {("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")}


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system, an architecture and its variant, in the names that Go gives them.

    The variant is empty where it says nothing: amd64/v1 and arm64/v8 are plain amd64 and arm64.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Self:
        """Normalise spellings as containerd does."""
        architecture = _ARCHITECTURES.get(architecture.lower(), architecture.lower())
        variant = variant.lower()
        if (architecture, variant) in _PLAIN_VARIANT:
            variant = ""
        if architecture == "arm" and not variant:
            variant = "v7"
        return cls(os.lower(), architecture, variant)

    def runs(self, image: "Platform") -> bool:
        """Tell whether a node of this platform runs an image of that one."""
        return image in self.runnable()

    def runnable(self) -> Iterable["Platform"]:
        """List what a node of this platform runs, best first: arm/v7 also runs v6 and v5."""
        yield self
        if self.architecture == "arm":
            older = int(self.variant[1:]) if self.variant[1:].isdigit() else 0
            for version in range(min(older, 8) - 1, 4, -1):
                yield Platform(self.os, self.architecture, f"v{version}")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


LINUX_AMD64: Final = Platform("linux", "amd64")
UNKNOWN: Final = Platform("unknown", "unknown")
