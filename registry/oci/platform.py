"""Platforms (OCI image-spec, image-index.md, "platform") and their compatibility."""

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
GOOS: Final = (
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
)
"""Operating systems of Go. Clients compare an image's config with these names exactly."""

GOARCH: Final = (
    "386",
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mipsle",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390x",
    "wasm",
)
"""Architectures of Go."""

_PLAIN_VARIANT: Final = {("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")}


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and variant, with the names of Go.

    The variant is empty for the default: amd64/v1 and arm64/v8 are plain amd64 and arm64.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Self:
        """Create a platform with names normalized as in containerd."""
        architecture = _ARCHITECTURES.get(architecture.lower(), architecture.lower())
        variant = variant.lower()
        if (architecture, variant) in _PLAIN_VARIANT:
            variant = ""
        if architecture == "arm" and not variant:
            variant = "v7"
        return cls(os.lower(), architecture, variant)

    def runs(self, image: "Platform") -> bool:
        """Return whether a node of this platform can run an image for another platform."""
        return image in self.runnable()

    def runnable(self) -> Iterable["Platform"]:
        """List the platforms that a node of this platform can run, best first.

        arm/v7 also runs v6 and v5, and amd64 also runs 386.
        """
        yield self
        if self.architecture == "amd64":
            yield Platform(self.os, "386")
        if self.architecture == "arm":
            older = int(self.variant[1:]) if self.variant[1:].isdigit() else 0
            for version in range(min(older, 8) - 1, 4, -1):
                yield Platform(self.os, self.architecture, f"v{version}")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


LINUX_AMD64: Final = Platform("linux", "amd64")
UNKNOWN: Final = Platform("unknown", "unknown")
