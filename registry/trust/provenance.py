"""SLSA provenance: which builder built an image, and from which source repository.

Sources: SLSA provenance v1 (slsa.dev/spec/v1.1/provenance) and v0.2 (slsa.dev/spec/v0.2/provenance).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from registry.errors import SignatureError
from registry.trust import glob
from registry.trust.signatures import PROVENANCE_PREDICATES
from registry.trust.statements import Statement

MAX_CHARS: Final = 512
"""Length limit of a builder's id and of a source repository."""

_V1: Final = PROVENANCE_PREDICATES[0]
#: Where the parameters of a build name its source, by the build types of GitHub, BuildKit and others.
_SOURCES: Final = (
    ("workflow", "repository"),
    ("source", "uri"),
    ("source", "repository"),
    ("configSource", "uri"),
    ("source",),
    ("repository",),
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who built an image, and from what.

    Attributes:
        builder: The builder's id, a URI.
        source: The source repository without branch and commit; None if the provenance does not name it.
    """

    builder: str
    source: str | None

    def __str__(self) -> str:
        """Return both for messages."""
        return f"{self.builder} from {self.source or 'a source that is not named'}"


def read_provenance(statement: Statement) -> Provenance:
    """Read the provenance in a statement. Raises SignatureError."""
    if statement.predicate_type not in PROVENANCE_PREDICATES:
        raise SignatureError("which is not provenance of SLSA")
    builder = _text(statement.predicate, *_builder_path(statement))
    if builder is None:
        raise SignatureError("with provenance that does not name the builder")
    return Provenance(builder, next(_sources(statement), None))


def check_provenance(found: Provenance, builder: str, source: str | None) -> None:
    """Compare provenance with the patterns of a rule. Raises SignatureError."""
    if not glob.matches(builder, found.builder):
        raise SignatureError(f"by another builder ({found})")
    if source is not None and not (found.source is not None and glob.matches(source, found.source)):
        raise SignatureError(f"from another source ({found})")


def _builder_path(statement: Statement) -> tuple[str, ...]:
    is_v1 = statement.predicate_type == _V1
    return ("runDetails", "builder", "id") if is_v1 else ("builder", "id")


def _sources(statement: Statement) -> Iterator[str]:
    """Yield the sources that the parameters of the build name.

    Materials and resolved dependencies are not read: a build has many of them.
    """
    if statement.predicate_type == _V1:
        paths = [("buildDefinition", "externalParameters", *path) for path in _SOURCES]
    else:
        paths = [("invocation", "configSource", "uri")]
    for path in paths:
        text = _text(statement.predicate, *path)
        if text is not None:
            yield _repository(text)


def _text(value: object, *path: str) -> str | None:
    """Return a bounded string in nested objects, or None."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_CHARS and value.isprintable() else None


def _repository(uri: str) -> str:
    """Return a source's URI without the scheme `git+`, the reference and the suffix `.git`."""
    plain = uri.removeprefix("git+").partition("#")[0].partition("@refs/")[0]
    return plain.removesuffix("/").removesuffix(".git")
