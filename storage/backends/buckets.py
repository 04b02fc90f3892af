"""Clients of object stores, with time-outs, retries, and credentials in the places that the SDKs use."""

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, S3Store

from storage.backends.locate import StorageLocation, seconds
from storage.backends.object_store import ObjectStoreBackend
from storage.backends.s3_leftovers import STALE_AFTER, S3Leftovers
from storage.errors import StorageUnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_CONNECT = timedelta(seconds=5)
_CREDENTIAL_LIFE = timedelta(minutes=15)


def s3(location: StorageLocation) -> ObjectStoreBackend:
    """Open a bucket of S3, or of a compatible service."""
    import botocore.session  # noqa: PLC0415 (half a second of imports that other backends do not need)

    session = botocore.session.get_session()
    # All AWS SDKs but botocore read AWS_REGION.
    region = location.options.get("region") or os.environ.get("AWS_REGION")
    region = region or session.get_config_variable("region") or "us-east-1"
    endpoint = location.options.get("endpoint")

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

    def client() -> Any:  # noqa: ANN401 (botocore creates client classes at run time)
        return session.create_client("s3", region_name=region, endpoint_url=endpoint)

    bucket = S3Store(
        location.place,
        prefix=location.prefix or None,
        config={
            "region": region,
            "checksum_algorithm": "SHA256",
            **({"endpoint": endpoint} if endpoint else {}),
        },
        client_options=_client(location),
        retry_config=_retry(location),
        credential_provider=credential,
    )
    leftovers = S3Leftovers(client, location.place, location.prefix, STALE_AFTER)
    return ObjectStoreBackend(bucket, reap=leftovers.reap, complete=leftovers.complete)


def google(location: StorageLocation) -> ObjectStoreBackend:
    """Open a bucket of Google Cloud Storage."""
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


def azure(location: StorageLocation) -> ObjectStoreBackend:
    """Open a container of Azure Blob Storage."""
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
        "timeout": seconds(location.options, "timeout_s", 30),
    }


def _retry(location: StorageLocation) -> "RetryConfig":
    return {
        "max_retries": 8,
        "retry_timeout": seconds(location.options, "retry_s", 60),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
