"""Storage URLs: `file:///path`, `s3://bucket/prefix?...`, `gs://`, `az://` (docs/storage.md).

Credentials come from the environment, in the places that the services' SDKs use. A URL with credentials is
refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from storage.backends.local import LocalBackend
from storage.errors import StorageUnavailableError
from storage.ports import BlobBackend

_COMMON = {"endpoint", "timeout_s", "retry_s"}
_OPTIONS = {"s3": {*_COMMON, "region"}, "gs": _COMMON, "az": _COMMON, "file": {"group"}}

_SERVICES = {
    "s3": "https://amazonaws.com",
    "gs": "https://storage.googleapis.com",
    "az": "https://blob.core.windows.net",
}


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Location of the object storage.

    Attributes:
        scheme: `file`, `s3`, `gs` or `az`.
        place: The folder, bucket or container.
        prefix: Prefix of all object names; empty, or with a final slash.
    """

    scheme: str
    place: str
    prefix: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> "StorageLocation":
        """Parse a storage URL. Raises ValueError; the message does not contain the URL."""
        parts = urlsplit(url)
        if parts.scheme not in _OPTIONS:
            raise ValueError("a storage URL must start with file://, s3://, gs:// or az://")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError(
                "remove the credentials from the storage URL: Crisper reads them from the environment"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if unknown := sorted(set(options) - _OPTIONS[parts.scheme]):
            raise ValueError(f"a {parts.scheme}:// URL has no option {', '.join(unknown)}")
        _seconds(options, "timeout_s", 1)
        _seconds(options, "retry_s", 1)
        if parts.scheme == "file":
            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError("write the storage URL as file:///absolute/path")
            return cls("file", unquote(parts.path), "", options)
        if not parts.netloc:
            raise ValueError(f"the storage URL has no bucket: write {parts.scheme}://BUCKET/PREFIX")
        prefix = parts.path.strip("/")
        return cls(parts.scheme, parts.netloc, f"{prefix}/" if prefix else "", options)

    @property
    def shared(self) -> bool:
        """Whether several machines can share the location."""
        return self.scheme != "file"

    @property
    def url(self) -> str | None:
        """URL of the service that has the objects; None for a folder."""
        return self.options.get("endpoint") or _SERVICES.get(self.scheme)

    def open(self) -> BlobBackend:
        """Open the backend. Raises StorageFullError or StorageUnavailableError."""
        if self.scheme == "file":
            return LocalBackend(Path(self.place), self.options.get("group"))
        from storage.backends import buckets  # noqa: PLC0415 (only servers need the client library)

        bucket = buckets.Bucket(
            name=self.place,
            prefix=self.prefix,
            region=self.options.get("region"),
            endpoint=self.options.get("endpoint"),
            timeout=_seconds(self.options, "timeout_s", 30),
            retry_timeout=_seconds(self.options, "retry_s", 60),
        )
        try:
            return {"s3": buckets.s3, "gs": buckets.google, "az": buckets.azure}[self.scheme](bucket)
        except Exception as error:  # noqa: BLE001 - of whatever kind, the clients share no root
            # A client's message may quote the environment.
            raise StorageUnavailableError(
                f"the object store cannot be used: check its URL and credentials ({type(error).__name__})"
            ) from None


def _seconds(options: Mapping[str, str], name: str, default: float) -> timedelta:
    """Read an option that is a number of seconds. Raises ValueError."""
    try:
        found = timedelta(seconds=float(options.get(name, default)))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a number of seconds") from None
    if not timedelta(0) < found <= timedelta(minutes=5):
        raise ValueError(f"{name} must be more than 0 and at most 300 seconds")
    return found
