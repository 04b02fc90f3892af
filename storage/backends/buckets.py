"""Clients of object stores, with time-outs, retries, and credentials in the places that the SDKs use."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, S3Store

from storage.backends.object_store import ObjectStoreBackend
from storage.backends.s3_leftovers import STALE_AFTER, S3Leftovers
from storage.errors import StorageUnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_CONNECT = timedelta(seconds=5)
_CREDENTIAL_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket or container, and how it is reached.

    Attributes:
        prefix: What the names of all objects start with; empty, or ends with a slash.
        region: Of S3; None leaves it to the environment.
        endpoint: Of a service other than the provider's own.
        timeout: Of one request.
        retry_timeout: Of a request and its repetitions.
    """

    name: str
    prefix: str
    region: str | None
    endpoint: str | None
    timeout: timedelta
    retry_timeout: timedelta


def s3(bucket: Bucket) -> ObjectStoreBackend:
    """Open a bucket of S3, or of a service that speaks its protocol."""
    import botocore.session  # noqa: PLC0415 (half a second of imports that other backends do not need)

    session = botocore.session.get_session()
    # AWS_REGION is what AWS' SDKs read, except for botocore.
    region = bucket.region or os.environ.get("AWS_REGION")
    region = region or session.get_config_variable("region") or "us-east-1"

    def credential() -> "S3Credential":
        found = session.get_credentials()
        if found is None:
            raise StorageUnavailableError(
                "no credentials for S3 found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
            )
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIAL_LIFE,
        }

    def client() -> Any:  # noqa: ANN401 (botocore makes its clients' classes at run time)
        return session.create_client("s3", region_name=region, endpoint_url=bucket.endpoint)

    store = S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config={
            "region": region,
            "checksum_algorithm": "SHA256",
            **({"endpoint": bucket.endpoint} if bucket.endpoint else {}),
        },
        client_options=_client(bucket),
        retry_config=_retry(bucket),
        credential_provider=credential,
    )
    leftovers = S3Leftovers(client, bucket.name, bucket.prefix, STALE_AFTER)
    return ObjectStoreBackend(store, reap=leftovers.reap, complete=leftovers.complete)


def google(bucket: Bucket) -> ObjectStoreBackend:
    """Open a bucket of Google Cloud Storage."""
    return ObjectStoreBackend(
        GCSStore(
            bucket.name,
            prefix=bucket.prefix or None,
            config={"base_url": bucket.endpoint} if bucket.endpoint else {},
            client_options=_client(bucket),
            retry_config=_retry(bucket),
        )
    )


def azure(bucket: Bucket) -> ObjectStoreBackend:
    """Open a container of Azure Blob Storage."""
    return ObjectStoreBackend(
        AzureStore(
            bucket.name,
            prefix=bucket.prefix or None,
            config={"endpoint": bucket.endpoint} if bucket.endpoint else {},
            client_options=_client(bucket),
            retry_config=_retry(bucket),
        )
    )


def _client(bucket: Bucket) -> "ClientConfig":
    return {
        "allow_http": (bucket.endpoint or "").startswith("http://"),
        "connect_timeout": _CONNECT,
        "timeout": bucket.timeout,
    }


def _retry(bucket: Bucket) -> "RetryConfig":
    return {
        "max_retries": 8,
        "retry_timeout": bucket.retry_timeout,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
