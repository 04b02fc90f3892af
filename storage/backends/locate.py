"""From a URL to a backend: `file:///path`, `s3://bucket/prefix?...`, `gs://...`, `az://...` (docs/storage.md).

Credentials come from the environment, as the services' own SDKs find them; a URL that holds some is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from storage.backends.local import LocalBackend
from storage.backends.object_store import ObjectStoreBackend
from storage.backends.s3_leftovers import STALE_AFTER, S3Leftovers
from storage.errors import StorageUnavailableError
from storage.ports import BlobBackend

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_COMMON = {"endpoint", "timeout_s", "retry_s"}
_OPTIONS = {"s3": {*_COMMON, "region"}, "gs": _COMMON, "az": _COMMON, "file": set[str]()}
_CONNECT = timedelta(seconds=5)
_CREDENTIAL_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class StorageLocation:
    """Where objects lie.

    Attributes:
        scheme: `file`, `s3`, `gs` or `az`.
        place: The folder, or the bucket or container.
        prefix: What the names of all objects start with; empty, or ends with a slash.
    """

    scheme: str
    place: str
    prefix: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> "StorageLocation":
        """Read a storage URL. Raises ValueError, whose message does not quote it."""
        parts = urlsplit(url)
        if parts.scheme not in _OPTIONS:
            raise ValueError("a storage URL starts with file://, s3://, gs:// or az://")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError("a storage URL holds no credentials: they come from the environment")
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if unknown := sorted(set(options) - _OPTIONS[parts.scheme]):
            raise ValueError(f"a {parts.scheme}:// URL has no option {', '.join(unknown)}")
        _seconds(options, "timeout_s", 1)
        _seconds(options, "retry_s", 1)
        if parts.scheme == "file":
            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError("write file:///absolute/path")
            return cls("file", unquote(parts.path), "", options)
        if not parts.netloc:
            raise ValueError(f"name the bucket: {parts.scheme}://BUCKET/PREFIX")
        prefix = parts.path.strip("/")
        return cls(parts.scheme, parts.netloc, f"{prefix}/" if prefix else "", options)

    @property
    def shared(self) -> bool:
        """Whether several machines may keep objects there."""
        return self.scheme != "file"

    def open(self) -> BlobBackend:
        """Open the backend. Raises StorageFullError or StorageUnavailableError."""
        if self.scheme == "file":
            return LocalBackend(Path(self.place))
        try:
            return {"s3": _s3, "gs": _gs, "az": _az}[self.scheme](self)
        except Exception as error:
            # A client's message may quote what it found in the environment.
            raise StorageUnavailableError(
                f"the object store cannot be used: check its URL and credentials ({type(error).__name__})"
            ) from None


def _s3(location: StorageLocation) -> ObjectStoreBackend:
    import botocore.session  # noqa: PLC0415 (half a second of imports that other backends do not need)

    session = botocore.session.get_session()
    # AWS_REGION is what AWS' SDKs read, except for botocore.
    region = location.options.get("region") or os.environ.get("AWS_REGION")
    region = region or session.get_config_variable("region") or "us-east-1"
    endpoint = location.options.get("endpoint")

    def credential() -> "S3Credential":
        found = session.get_credentials()
        if found is None:
            raise StorageUnavailableError("there are no credentials for S3 in the environment")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIAL_LIFE,
        }

    def client() -> Any:  # noqa: ANN401 (botocore makes its clients' classes at run time)
        return session.create_client("s3", region_name=region, endpoint_url=endpoint)

    bucket = S3Store(
        location.place,
        prefix=location.prefix or None,
        config={"region": region, "checksum_algorithm": "SHA256", **({"endpoint": endpoint} if endpoint else {})},
        client_options=_client(location),
        retry_config=_retry(location),
        credential_provider=credential,
    )
    leftovers = S3Leftovers(client, location.place, location.prefix, STALE_AFTER)
    return ObjectStoreBackend(bucket, reap=leftovers.reap)


def _gs(location: StorageLocation) -> ObjectStoreBackend:
    endpoint = location.options.get("endpoint")
    return ObjectStoreBackend(
        GCSStore(
            location.place,
            prefix=location.prefix or None,
            config={"base_url": endpoint} if endpoint else {},
            client_options=_client(location),
            retry_config=_retry(location),
        )
    )


def _az(location: StorageLocation) -> ObjectStoreBackend:
    endpoint = location.options.get("endpoint")
    return ObjectStoreBackend(
        AzureStore(
            location.place,
            prefix=location.prefix or None,
            config={"endpoint": endpoint} if endpoint else {},
            client_options=_client(location),
            retry_config=_retry(location),
        )
    )


def _client(location: StorageLocation) -> "ClientConfig":
    return {
        "allow_http": location.options.get("endpoint", "").startswith("http://"),
        "connect_timeout": _CONNECT,
        "timeout": _seconds(location.options, "timeout_s", 30),
    }


def _retry(location: StorageLocation) -> "RetryConfig":
    return {
        "max_retries": 8,
        "retry_timeout": _seconds(location.options, "retry_s", 60),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }


def _seconds(options: Mapping[str, str], name: str, default: float) -> timedelta:
    try:
        found = timedelta(seconds=float(options.get(name, default)))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is a number of seconds") from None
    if not timedelta(0) < found <= timedelta(minutes=5):
        raise ValueError(f"{name} is more than 0 and at most 300 seconds")
    return found
