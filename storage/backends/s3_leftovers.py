"""Abandoned multipart uploads, which S3 keeps, and charges for, until they are aborted."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.errors import StorageUnavailableError

STALE_AFTER = timedelta(hours=24)


class S3Leftovers:
    """Aborts uploads under a prefix that are older than `stale_after`, or completes one as it is.

    Args:
        client: Returns botocore's S3 client; called at the first use.
    """

    def __init__(
        self, client: Callable[[], Any], bucket: str, prefix: str, stale_after: timedelta = STALE_AFTER
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._stale_after = stale_after

    def reap(self) -> int:
        """Abort stale uploads. Returns their number. Raises StorageUnavailableError."""
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
                f"abandoned uploads could not be aborted ({type(error).__name__})"
            ) from None
        return ended

    def complete(self, name: str) -> bool:
        """Complete an upload with the parts that it has. Returns False if there is no such upload.

        Raises:
            StorageUnavailableError: The service does not answer.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (half a second of imports)

        key = self._prefix + name
        try:
            client = self._client()
            listed = client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
            uploads = [entry for entry in listed.get("Uploads", []) if entry["Key"] == key]
            if not uploads:
                return False
            upload = {"Bucket": self._bucket, "Key": key, "UploadId": uploads[-1]["UploadId"]}
            pages = client.get_paginator("list_parts").paginate(**upload)
            parts = _gapless([_part(part) for page in pages for part in page.get("Parts", [])])
            if parts:
                client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except (BotoCoreError, ClientError) as error:
            raise StorageUnavailableError(
                f"an abandoned upload could not be completed ({type(error).__name__})"
            ) from None
        return bool(parts)


def _part(listed: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("PartNumber", "ETag", "ChecksumSHA256")
    return {name: listed[name] for name in kept if name in listed}


def _gapless(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts up to the first gap; parallel uploads can leave gaps."""
    return [part for number, part in enumerate(parts, 1) if part["PartNumber"] == number]
