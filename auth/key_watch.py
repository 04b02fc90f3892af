"""Reloading of rotated signing keys while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from auth.errors import KeyMaterialError
from auth.signing_keys import LocalPublicKeys, LocalSigningKeys

LOOK_S: Final = 1.0
_log = structlog.get_logger(__name__)


@asynccontextmanager
async def watched(keys: LocalSigningKeys | LocalPublicKeys) -> AsyncIterator[None]:
    """Check the folder for new keys once per second while the block runs. Ignores an invalid key set."""
    watching = asyncio.create_task(_watch(keys))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(keys: LocalSigningKeys | LocalPublicKeys) -> None:
    refused = ""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if await asyncio.to_thread(keys.refresh):
                known = [key["kid"] for key in keys.verification_keys.jwks()["keys"]]
                _log.info("signing_keys.changed", key_ids=known)
            refused = ""
        except (KeyMaterialError, OSError) as error:
            if str(error) != refused:  # log each error only once
                _log.error("signing_keys.refused", error=str(error))
            refused = str(error)
