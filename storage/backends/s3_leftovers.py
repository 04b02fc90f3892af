"""Multipart uploads that nobody will complete, which S3 keeps and charges for until they are ended."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.errors import StorageUnavailableError

STALE_AFTER = timedelta(hours=24)


class S3Leftovers:
    """Ends uploads under a prefix that were begun before `stale_after`: no import takes so long.

    Args:
        client: botocore's S3 client, made at the first use.
    """

    def __init__(
        self, client: Callable[[], Any], bucket: str, prefix: str, stale_after: timedelta = STALE_AFTER
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._stale_after = stale_after

    def reap(self) -> int:
        """End them; return how many. Raises StorageUnavailableError."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (half a second of imports)

        begun_before = datetime.now(UTC) - self._stale_after
        ended = 0
        try:
            client = self._client()
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for upload in (entry for page in pages for entry in page.get("Uploads", [])):
                if upload["Initiated"] <= begun_before:
                    client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    ended += 1
        except (BotoCoreError, ClientError) as error:
            raise StorageUnavailableError(
                f"leftover uploads could not be ended ({type(error).__name__})"
            ) from None
        return ended
