"""Platforms (OCI image-spec, image-index.md, "platform") and their compatibility."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from registry.errors import DocumentError, ReferenceFormatError
from registry.oci.strict_json import refuse_other_case

_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
"""Other names of architectures, with the variant that they imply (containerd, platforms/database.go)."""

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

_FIELDS: Final = ("os", "architecture", "variant", "os.version", "os.features")
_NAME: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_PLAIN_VARIANT: Final = {("amd64", "v1"), ("arm64", "v8")}
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", re.ASCII)
MAX_PLATFORMS: Final = 8
"""Maximum number of platforms of one import."""


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
        architecture, variant = architecture.lower(), variant.lower()
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = implied or variant
        if architecture.startswith("arm") and variant.isdigit():
            variant = f"v{variant}"
        if (architecture, variant) in _PLAIN_VARIANT:
            variant = ""
        if architecture == "arm" and not variant:
            variant = "v7"
        return cls(os.lower(), architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `os/architecture[/variant]`, with the names of Go or their aliases.

        Raises:
            ReferenceFormatError: The text is not a platform that Go knows.
        """
        words = text.split("/")
        if len(words) not in {2, 3} or not all(_WORD.fullmatch(word) for word in words):
            raise ReferenceFormatError(
                f"{text[:64]!r} is not a platform: use OS/ARCHITECTURE, as linux/arm64"
            )
        platform = cls.of(*words)
        if platform.os not in GOOS or platform.architecture not in GOARCH:
            raise ReferenceFormatError(f"{text[:64]!r} is not a known platform: use one as linux/arm/v7")
        return platform

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


def parse_platforms(listed: Iterable[str]) -> tuple[Platform, ...]:
    """Parse a list of platforms. Repeated ones count once.

    Raises:
        ReferenceFormatError: One is not a platform, or there are none or too many.
    """
    platforms = tuple(dict.fromkeys(Platform.parse(text.strip()) for text in listed))
    if not 0 < len(platforms) <= MAX_PLATFORMS:
        raise ReferenceFormatError(f"list 1 to {MAX_PLATFORMS} platforms, as linux/amd64,linux/arm64")
    return platforms


LINUX_AMD64: Final = Platform("linux", "amd64")
UNKNOWN: Final = Platform("unknown", "unknown")


def read_platform(value: object) -> Platform:
    """Return the platform in a descriptor or a config.

    Raises:
        DocumentError: The fields are no valid names.
    """
    if not isinstance(value, Mapping):
        raise DocumentError("a platform is not an object")
    refuse_other_case(value, _FIELDS, "a platform")
    words = [value.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(word, str) and (not word or _NAME.fullmatch(word)) for word in words):
        raise DocumentError("a platform has no valid os, architecture or variant")
    return Platform.of(*words)
