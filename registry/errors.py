"""Tree of the registry's errors.

RegistryError
├── ReferenceFormatError    an invalid image reference
├── DocumentError           a manifest, index or config that is invalid for its media type, or over a limit
├── NodeKeyError            a public key that cannot be a node's encryption key
├── JweError                a wrapped key of an encrypted layer that cannot be opened
│   └── JweKeyMismatchError     it was wrapped for another key
├── DecoderError            a layer that the node cannot decrypt
├── SignatureError          a signature, key or certificate that is not valid
├── NodeProxyError          a request to the node's proxy that cannot be answered
│   ├── ProxyAccessError        the caller is not known to the proxy
│   ├── CacheTooSmallError      a layer is larger than the proxy's cache
│   ├── LayerDamagedError       a layer does not match its HMAC or digest
│   ├── RegistryRefusedError    the registry refuses the pull
│   └── RegistryUnreachableError    the registry does not answer: retry
├── ChallengeFormatError    a WWW-Authenticate header outside RFC 7235's grammar
├── EgressRefusedError      an address or URL that the egress guard refuses
├── ConfigError             invalid or unsafe settings
├── NotFoundError           no such organization, group, node or token
│   └── ManifestNotFoundError   no such manifest in a repository
├── EdgeFailedError         an edge cache does not send what it was asked for
├── IdentityProviderError   the identity provider does not answer, or not as OpenID Connect requires
│   └── IdTokenError            an ID token that is not valid
├── WebhookFailedError      a webhook endpoint did not accept a message
├── CatalogUnavailableError the catalog's database does not answer
├── AuditTrailError         the audit trail's hash chain was changed by other means
├── ConflictError           a name is taken, or a resource is in the wrong state for the request
│   ├── PreconditionFailedError     the resource has changed since the caller read it
│   ├── NodeKeyMissingError     encryption is required, and the node has no encryption key
│   └── NotEncryptedError       encryption is required, and the image is not stored for it
├── EncryptedSessionError   a client that cannot decrypt layers pulls an encrypted image
├── RateLimitedError        the caller is over its rate limit
├── AccessDeniedError       the caller's role, or the scope of its API key, does not allow the request
├── OutOfScopeError         an operation of SaladCloud's API that Crisper does not have
├── QuotaExceededError      an organization is at one of its quotas
├── InvalidInputError       invalid fields, each with the reason
└── ImportFailedError       a failed import; `reason` is one of four, `sentence` is for the customer
    ├── AuthenticationFailedError
    ├── PullFailedError
    │   ├── UpstreamUnavailableError    temporary failure: retry
    │   ├── PlainHttpError          the upstream answers without TLS
    │   ├── UpstreamMissingError    the upstream does not have a document or blob
    │   └── RangeRefusedError       the upstream refused a range: retry without one
    ├── ImageTooLargeError
    └── StoreFailedError
        └── StoreUnavailableError       storage, keys, catalog or Redis do not answer: retry later
"""

from collections.abc import Mapping
from typing import ClassVar


class RegistryError(Exception):
    """Root of all errors that this package raises."""


class ReferenceFormatError(RegistryError):
    """An invalid image reference. The message says how to write it."""


class DocumentError(RegistryError):
    """A manifest, index or config that is invalid for its media type, or over a limit."""


class NodeKeyError(RegistryError):
    """A text that cannot be a node's encryption key. The message says why, and what to send instead."""


class JweError(RegistryError):
    """The wrapped key of an encrypted layer is invalid, modified, or of an unsupported algorithm."""


class JweKeyMismatchError(JweError):
    """The layer's key was wrapped for another key than the one given."""


class DecoderError(RegistryError):
    """A layer that the node cannot decrypt. The message is for the user of the container runtime."""


class SignatureError(RegistryError):
    """A signature, key or certificate that is not valid.

    The message about a signature continues "1 signature found: 1 ...".
    """


class NodeProxyError(RegistryError):
    """A request to `crisper node proxy` that cannot be answered. The message is for the client's user."""


class ProxyAccessError(NodeProxyError):
    """The caller is not on this machine, or does not know the proxy's secret."""


class CacheTooSmallError(NodeProxyError):
    """A layer is larger than the proxy's cache."""


class LayerDamagedError(NodeProxyError):
    """A layer does not match its HMAC or its digest."""


class RegistryRefusedError(NodeProxyError):
    """The registry refuses the pull, or something in it.

    Attributes:
        is_absent: The content does not exist, as opposed to: this pull may not have it.
    """

    def __init__(self, message: str, *, is_absent: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent


class RegistryUnreachableError(NodeProxyError):
    """The registry does not answer, or its answer was cut off. A retry may help.

    Attributes:
        retry_after_s: Seconds to wait, if the registry has asked for it.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ChallengeFormatError(RegistryError):
    """A WWW-Authenticate header outside RFC 7235's grammar."""


class EgressRefusedError(RegistryError, OSError):
    """An address or URL that the egress guard refuses to connect to.

    It is also an OSError, because aiohttp's socket factory may raise only that.
    """


class ConfigError(RegistryError):
    """Invalid settings, or defaults that are unsafe in production."""


class NotFoundError(RegistryError):
    """No such organization, group, node or token."""


class ManifestNotFoundError(NotFoundError):
    """The repository has no such manifest, or none of a media type that the client accepts."""


class EdgeFailedError(RegistryError):
    """An edge cache does not answer, or not with what it was asked for. The message continues its name."""


class IdentityProviderError(RegistryError):
    """The identity provider does not answer, or not as OpenID Connect requires.

    The message is for the server's log, and continues "the identity provider: ...".
    """


class IdTokenError(IdentityProviderError):
    """An ID token that is not valid. The message says why, without any part of the token."""


class WebhookFailedError(RegistryError):
    """A webhook endpoint did not accept a message. The message of the error is for the endpoint's owner."""


class CatalogUnavailableError(RegistryError):
    """The catalog's database does not answer."""


class AuditTrailError(RegistryError):
    """The audit trail's hash chain was changed by other means than a server."""


class ConflictError(RegistryError):
    """The name is taken, or the resource is in the wrong state for the request."""


class PreconditionFailedError(ConflictError):
    """The resource has changed since the caller read it (If-Match)."""


class NodeKeyMissingError(ConflictError):
    """Encryption is required, and the node has no encryption key, or a runtime that cannot decrypt."""


class NotEncryptedError(ConflictError):
    """Encryption is required, and the image was stored without encrypted delivery."""


class EncryptedSessionError(RegistryError):
    """The session's layers cannot be sent to this client, which could not decrypt them."""


class RateLimitedError(RegistryError):
    """The caller is over its rate limit, or has too many responses at a time.

    Attributes:
        retry_after_s: Seconds until the next request is accepted.
    """

    def __init__(
        self,
        retry_after_s: float,
        message: str = "This API key is over its rate limit. Retry after the time in Retry-After.",
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaExceededError(RegistryError):
    """The request would take an organization over one of its quotas.

    Attributes:
        quota: Name of the quota (`registry.model.quotas`).
    """

    def __init__(self, quota: str, limit: int, *, used: int | None = None) -> None:
        in_use = f" and uses {used}" if used is not None else ""
        super().__init__(
            f"The organization's quota {quota} is {limit}{in_use}. Delete or reduce something, or ask the "
            "operator for a higher quota."
        )
        self.quota = quota


class AccessDeniedError(RegistryError):
    """The caller's role, or the scope of its API key, does not allow the request."""


class OutOfScopeError(RegistryError):
    """An operation of SaladCloud's API that Crisper does not have."""


class InvalidInputError(RegistryError):
    """Invalid fields in a request.

    Attributes:
        fields: Maps each field's path to the reasons why it is invalid; never contains the value.
    """

    def __init__(self, message: str, fields: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})


class ImportFailedError(RegistryError):
    """A failed import.

    Attributes:
        reason: Stable string that the public API shows.
        sentence: What happened and what the customer can do. Never contains a secret.
    """

    reason: ClassVar[str]

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class AuthenticationFailedError(ImportFailedError):
    """The upstream registry or its token realm refused the credentials."""

    reason = "failed to authenticate"


class PullFailedError(ImportFailedError):
    """The image is missing, damaged or not for this platform, or the upstream does not answer."""

    reason = "failed to pull"


class UpstreamUnavailableError(PullFailedError):
    """Temporary failure of the upstream. The import retries, then fails to pull.

    Attributes:
        retry_after_s: The upstream's Retry-After in seconds; None if it sent none.
        outage: The upstream is down or overloaded and will probably come back, so that it is worth minutes of
            retries and a delayed retry of the import.
    """

    def __init__(self, sentence: str, retry_after_s: float | None = None, *, outage: bool = True) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s
        self.outage = outage


class UpstreamMissingError(PullFailedError):
    """The upstream lacks a document or blob. If the image's tag has moved, the new image may be complete."""


class PlainHttpError(PullFailedError):
    """The upstream answers in plain HTTP where TLS was expected."""


class RangeRefusedError(PullFailedError):
    """The upstream refused a range of a blob, or sent another one. The whole blob may be available."""


class ImageTooLargeError(ImportFailedError):
    """The compressed image is over the size limit."""

    reason = "image too large"


class StoreFailedError(ImportFailedError):
    """Storage, key provider or compression failed, also after retries."""

    reason = "failed to store"


class StoreUnavailableError(StoreFailedError):
    """Storage, key provider, catalog or Redis do not answer. The import returns to the queue."""
