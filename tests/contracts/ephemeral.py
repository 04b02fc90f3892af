"""What every store of short-lived state has to keep. Subclass, and give a fixture of the port's name."""

import asyncio

import pytest

from auth.secret import Secret
from registry.errors import StoreFailedError
from registry.model.imports import (
    CredentialKind,
    CredentialVault,
    Progress,
    ProgressStore,
    Stage,
    UpstreamCredential,
)
from registry.portal.session_store import SessionStore

ROBOT = UpstreamCredential("org+robot", Secret("p:ä"))
KEY = UpstreamCredential("AKIAEXAMPLE", Secret("s3cret"), CredentialKind.AWS_ACCESS_KEY)


class CredentialVaultContract:
    async def test_a_credential_opens_with_its_key(self, vault: CredentialVault) -> None:
        for job_id, credential in (("job-1", ROBOT), ("job-2", KEY)):
            assert await vault.open(job_id, await vault.seal(job_id, credential)) == credential

    async def test_sealing_again_replaces_the_credential(self, vault: CredentialVault) -> None:
        await vault.seal("job-1", ROBOT)
        assert await vault.open("job-1", await vault.seal("job-1", KEY)) == KEY

    async def test_a_forgotten_credential_does_not_open(self, vault: CredentialVault) -> None:
        key, other = await vault.seal("job-1", ROBOT), await vault.seal("job-2", KEY)
        for _ in range(2):
            await vault.forget("job-1")
        with pytest.raises(StoreFailedError):
            await vault.open("job-1", key)
        assert await vault.open("job-2", other) == KEY


class ProgressStoreContract:
    async def test_the_latest_progress_of_known_jobs_comes_back(self, board: ProgressStore) -> None:
        latest = Progress(Stage.PULLING, 1, 2, 500, 1000, 10)
        await board.put("job-1", Progress(Stage.PULLING))
        await board.put("job-1", latest)
        await board.put("job-2", Progress(Stage.STORING))
        assert await board.get(["job-1", "job-3"]) == {"job-1": latest}
        assert await board.get([]) == {}


class SessionStoreContract:
    async def test_a_session_holds_its_key_until_it_is_closed(self, sessions: SessionStore) -> None:
        one, two = await sessions.open(b"hash-1"), await sessions.open(b"hash-2")
        assert one.reveal() != two.reveal()
        assert await sessions.find(one.reveal()) == b"hash-1"
        for _ in range(2):
            await sessions.close(one.reveal())
        assert await sessions.find(one.reveal()) is None
        assert await sessions.find(two.reveal()) == b"hash-2"
        assert await sessions.find("unknown \udcff") is None

    async def test_a_shorter_session_ends_earlier(self, sessions: SessionStore) -> None:
        short, usual = await sessions.open(b"one", 1), await sessions.open(b"two")
        async with asyncio.timeout(30):
            while await sessions.find(short.reveal()) is not None:  # noqa: ASYNC110 (of the store)
                await asyncio.sleep(0.1)
        assert await sessions.find(usual.reveal()) == b"two"

    async def test_the_holder_of_a_session_is_replaced_until_it_ends(self, sessions: SessionStore) -> None:
        session = (await sessions.open(b"before", 60)).reveal()
        await sessions.replace(session, b"after")
        assert await sessions.find(session) == b"after"
        await sessions.close(session)
        await sessions.replace(session, b"again")
        assert await sessions.find(session) is None

    async def test_a_form_is_processed_once(self, sessions: SessionStore) -> None:
        assert await sessions.begin_form("one", "form \udcff") is None
        assert await sessions.begin_form("one", "form \udcff") == ""
        await sessions.end_form("one", "form \udcff", "/page")
        assert await sessions.begin_form("one", "form \udcff") == "/page"
        assert await sessions.begin_form("one", "another") is None
        assert await sessions.begin_form("two", "form \udcff") is None

    async def test_a_secret_is_read_once_by_its_session_on_its_page(self, sessions: SessionStore) -> None:
        await sessions.put_secret("one", "/page", b"sealed")
        assert await sessions.take_secret("two", "/page") is None
        assert await sessions.take_secret("one", "/other") is None
        assert await sessions.take_secret("one", "/page") == b"sealed"
        assert await sessions.take_secret("one", "/page") is None
