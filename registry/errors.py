"""Everything that can go wrong in the registry, drawn.

RegistryError
├── ReferenceFormatError    an image reference that cannot be read
├── DocumentError           a manifest, index or config that is not what its media type promises
├── ChallengeFormatError    a WWW-Authenticate header outside RFC 7235's grammar
├── EgressRefusedError      an address or a URL that the egress guard does not connect to
├── ConfigError             settings that the server refuses to start with
├── NotFoundError           no such organization, group, node or token
│   └── ManifestNotFoundError   no such manifest in a repository
├── WebhookFailedError      a message that its endpoint did not take
├── CatalogUnavailableError the catalog's database does not answer
├── ConflictError           the name is taken, or the thing is in the wrong state
│   └── PreconditionFailedError     the thing has changed since the caller read it
├── RateLimitedError        the caller asks too often
├── InvalidInputError       fields that do not validate, each with its reason
└── ImportFailedError       an import that ended; `reason` is one of four, `sentence` is for the customer
    ├── AuthenticationFailedError
    ├── PullFailedError
    │   ├── UpstreamUnavailableError    passing trouble: worth another try
    │   └── RangeRefusedError       a range is refused or answered oddly: worth a try without one
    ├── ImageTooLargeError
    └── StoreFailedError
"""

from collections.abc import Mapping
from typing import ClassVar


class RegistryError(Exception):
    """Root of every error that this package raises on purpose."""


class ReferenceFormatError(RegistryError):
    """An image reference that cannot be read; the message says how to write it."""


class DocumentError(RegistryError):
    """A manifest, index or config that is not what its media type promises, or is over a limit."""


class ChallengeFormatError(RegistryError):
    """A WWW-Authenticate header outside RFC 7235's grammar."""


class EgressRefusedError(RegistryError, OSError):
    """An address or a URL that the egress guard does not connect to.

    It is an OSError too, because a socket factory may raise nothing else.
    """


class ConfigError(RegistryError):
    """Settings that the server refuses to start with."""


class NotFoundError(RegistryError):
    """No such organization, group, node or token."""


class ManifestNotFoundError(NotFoundError):
    """The repository has no such manifest, or none of a kind that the client takes."""


class WebhookFailedError(RegistryError):
    """An endpoint did not answer a message; the sentence is for its owner."""


class CatalogUnavailableError(RegistryError):
    """The catalog's database does not answer."""


class ConflictError(RegistryError):
    """The name is taken, or the thing is in the wrong state for what was asked."""


class PreconditionFailedError(ConflictError):
    """The thing is no longer as the caller last read it."""


class RateLimitedError(RegistryError):
    """The caller asks too often.

    Attributes:
        retry_after_s: When the next request will be taken.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("This key has asked too often; wait as long as Retry-After says.")
        self.retry_after_s = retry_after_s


class InvalidInputError(RegistryError):
    """Fields that do not validate.

    Attributes:
        fields: Field path to the reasons why it was refused; never the refused value.
    """

    def __init__(self, message: str, fields: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})


class ImportFailedError(RegistryError):
    """An import that ended without an image.

    Attributes:
        reason: The stable word that the public API shows.
        sentence: What the customer can do about it; never holds a secret.
    """

    reason: ClassVar[str]

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class AuthenticationFailedError(ImportFailedError):
    """The registry or its realm refused the credentials."""

    reason = "failed to authenticate"


class PullFailedError(ImportFailedError):
    """The image is not there, not for this platform, not intact, or the upstream does not answer."""

    reason = "failed to pull"


class UpstreamUnavailableError(PullFailedError):
    """Passing trouble upstream; a failed pull once every retry is used up.

    Attributes:
        retry_after_s: How long the upstream asked to be left alone; None when it did not say.
    """

    def __init__(self, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class RangeRefusedError(PullFailedError):
    """The upstream refuses a range of a blob, or answers something else; the whole blob may be had."""


class ImageTooLargeError(ImportFailedError):
    """The compressed image is over the limit."""

    reason = "image too large"


class StoreFailedError(ImportFailedError):
    """Storage, keys or compression failed after retries."""

    reason = "failed to store"
