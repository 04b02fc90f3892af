"""The credentials of imports, from the customer's request until their job has ended."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from registry.errors import InvalidInputError
from registry.model.imports import CredentialVault, UpstreamCredential


class ImportCredentials:
    """Reads credentials from requests, and stores them for import jobs.

    Args:
        credential_from: Converts the public API's `registry_authentication` into an upstream credential.
            Raises InvalidInputError, whose paths start at `registry_authentication`.
    """

    def __init__(
        self,
        vault: CredentialVault,
        credential_from: Callable[[Mapping[str, Any]], UpstreamCredential | None],
    ) -> None:
        self._vault = vault
        self._credential_from = credential_from
        self.forget = vault.forget

    def read(self, asked: Mapping[str, Any] | None) -> UpstreamCredential | None:
        """Return the credential in a request. Raises InvalidInputError."""
        return read_credential(self._credential_from, asked)

    @asynccontextmanager
    async def stored(self, job_id: str, credential: UpstreamCredential | None) -> AsyncIterator[bytes | None]:
        """Store a credential while its job is written, and yield its wrapped key. A failure removes it.

        The credential comes first, because a worker may claim the job as soon as its row exists.
        """
        if credential is None:
            yield None
            return
        credential_key = await self._vault.seal(job_id, credential)
        try:
            yield credential_key
        except BaseException:
            await self._vault.forget(job_id)
            raise


def read_credential(
    credential_from: Callable[[Mapping[str, Any]], UpstreamCredential | None], asked: Mapping[str, Any] | None
) -> UpstreamCredential | None:
    """Return the credential in a request; None for a public image. Raises InvalidInputError."""
    if asked is None:
        return None
    try:
        return credential_from(asked)
    except InvalidInputError as error:
        fields = {f"container.{path}": reasons for path, reasons in error.fields.items()}
        raise InvalidInputError("The registry credentials cannot be used.", fields) from None
