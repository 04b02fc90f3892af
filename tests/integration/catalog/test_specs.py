"""Specs are encrypted in the catalog, lost with their organization's keys, and upgraded from plaintext."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import JSON, column, insert, select, table, text

from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.plaintext import migrate
from registry.catalog.specs import LOST, SpecCipher
from registry.catalog.tables import data_keys, groups, images, versions
from registry.catalog.wrapped_secrets import SqlWrappedSecrets
from registry.model.groups import Group, GroupKey
from registry.model.versions import configuration_of
from storage.digest import Digest
from storage.errors import BlobDamagedError, KeyUnavailableError
from storage.keys.local import LocalKeyring
from storage.upkeep.rewrapping import KeyManager
from tests.support.groups import created, updated
from tests.support.key_records import MemoryKeyRecords
from tests.support.postgres import another_database, drop_database
from tests.support.traces import secrets_found

CANARY = "canary-4be1c2f7a9d05e63"
SPEC = {"replicas": 1, "container": {"command": ["run", CANARY], "environment_variables": {"TOKEN": CANARY}}}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_group(name: str = "web", organization: str = "acme") -> Group:
    key = GroupKey(organization, "shop", name)
    return Group.create(key, "registry.example.com/web:1", SPEC, autostart=False, now=NOW).group


class Keys:
    """A keyring beside a catalog, and the operations on it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.keyring = LocalKeyring.create(folder / "keyring.json")
        self.manager = KeyManager(self.keyring, MemoryKeyRecords(), SqlWrappedSecrets(database))

    def catalog(self) -> SqlGroupCatalog:
        """Open the catalog as another process does, with no cached key."""
        return SqlGroupCatalog(self.database, SystemClock(), SpecCipher(self.database, self.keyring))


@pytest.fixture
def keys(database: Database, tmp_path: Path) -> Keys:
    return Keys(database, tmp_path)


async def test_a_spec_is_stored_as_ciphertext_and_read_back(keys: Keys, database: Database) -> None:
    group = a_group()
    await keys.catalog().create(created(group), None)
    found = await keys.catalog().get(group.key)
    assert found is not None
    assert found.spec == SPEC
    assert CANARY not in repr(found)
    listed, _ = await keys.catalog().page("acme", "shop", limit=9, max_spec_bytes=10**6)
    assert [each.spec for each in listed] == [SPEC]
    async with database.read() as connection:
        rows = (await connection.execute(select(groups.c.sealed_spec, data_keys).join(data_keys))).all()
    assert len(rows) == 1
    assert CANARY not in repr(rows)


async def test_a_group_is_read_without_its_spec_while_no_key_is_available(keys: Keys, tmp_path: Path) -> None:
    group, catalog = a_group(), keys.catalog()
    await catalog.create(created(group), None)
    (tmp_path / "keyring.json").rename(tmp_path / "away.json")
    with pytest.raises(KeyUnavailableError):
        await keys.catalog().get(group.key)
    for found in (await keys.catalog().get(group.key, with_spec=False),):
        assert found is not None
        with pytest.raises(RuntimeError, match="without its spec"):
            found.spec["replicas"]
    assert await keys.catalog().delete(group.key) is not None


async def test_a_change_without_a_new_spec_keeps_it(keys: Keys) -> None:
    group = a_group()
    await keys.catalog().create(created(group), None)
    read = await keys.catalog().get(group.key, with_spec=False)
    assert read is not None
    assert await keys.catalog().change(read, updated(replace(read, revision=2, started=True)))
    found = await keys.catalog().get(group.key)
    assert found is not None
    assert (found.spec, found.started) == (SPEC, True)


async def test_a_spec_opens_only_in_its_own_group(keys: Keys, database: Database) -> None:
    mine, other = a_group("mine"), a_group("other")
    for group in (mine, other):
        await keys.catalog().create(created(group), None)
    moved = select(groups.c.sealed_spec).where(groups.c.id == other.id).scalar_subquery()
    async with database.write() as connection:
        await connection.execute(groups.update().where(groups.c.id == mine.id).values(sealed_spec=moved))
    with pytest.raises(BlobDamagedError):
        await keys.catalog().get(mine.key)


async def test_groups_of_an_organization_share_a_key_and_others_have_their_own(
    keys: Keys, database: Database
) -> None:
    many = [a_group(f"web-{number}", name) for name in ("acme", "rival") for number in range(5)]
    await asyncio.gather(*(keys.catalog().create(created(group), None) for group in many))
    async with database.read() as connection:
        found = (await connection.execute(select(groups.c.organization, groups.c.spec_key).distinct())).all()
    assert sorted(organization for organization, _ in found) == ["acme", "rival"]


async def test_specs_open_after_rotation_and_rewrapping(keys: Keys) -> None:
    group = a_group()
    await keys.catalog().create(created(group), None)
    old = await keys.keyring.current_id("acme")
    new = (await keys.manager.rotate())["acme"]
    assert (await keys.manager.rewrap()).changed == 1
    assert [(use.kek_id, use.secrets) for use, _ in await keys.manager.status()] == [(new, 1)]
    assert old != new
    found = await keys.catalog().get(group.key)
    assert found is not None
    assert found.spec == SPEC


async def test_shredding_destroys_the_specs_of_one_organization(keys: Keys) -> None:
    group, other, catalog = a_group(), a_group(organization="rival"), keys.catalog()
    for each in (group, other):
        await catalog.create(created(each), None)
    before = await catalog.get(group.key)
    await keys.manager.shred("acme")

    found, kept = await catalog.get(group.key), await catalog.get(other.key)
    assert found is not None
    assert kept is not None
    assert (found.spec, kept.spec) == (LOST, SPEC)
    assert before is not None
    # A server that read the group before does not write the spec back.
    assert not await catalog.change(before, updated(replace(before, revision=before.revision + 1)))
    renewed = replace(found, spec={"container": {"command": []}}, revision=found.revision + 1)
    assert await catalog.change(found, updated(renewed))
    again = await keys.catalog().get(group.key)
    assert again is not None
    assert again.spec == {"container": {"command": []}}


async def test_a_spec_that_was_sealed_before_the_shredding_is_not_stored(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, group = keys.catalog(), a_group()
    await catalog.create(created(a_group("first")), None)
    sealed = await catalog._specs.seal("acme", group.id, SPEC)
    await keys.manager.shred("acme")

    async def late(*_: object) -> dict[str, object]:
        return sealed

    monkeypatch.setattr(catalog._specs, "seal", late)
    with pytest.raises(KeyUnavailableError, match="shredded"):
        await catalog.create(created(group), None)
    first = await catalog.get(GroupKey("acme", "shop", "first"))
    assert first is not None
    assert not await catalog.change(first, updated(replace(first, spec=SPEC, revision=first.revision + 1)))


@pytest.fixture(params=["sqlite", "postgresql"])
async def older(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Database, Path]]:
    """A catalog of the schema before specs were encrypted, and the folder with its files."""
    if request.param == "sqlite":
        folder = tmp_path / "catalog"
        folder.mkdir()
        database = Database(f"sqlite:///{folder / 'catalog.db'}")
        await database.migrate("0100")
        yield database, folder
        await database.close()
        return
    migrated: str = request.getfixturevalue("migrated_url")
    url = await asyncio.to_thread(another_database, migrated)
    database = Database(url)
    await database.migrate("0100")
    yield database, Path(url.rpartition("host=")[2]) / "data" / "base"
    await database.close()
    await asyncio.to_thread(drop_database, url)


async def test_plaintext_of_an_older_version_is_encrypted_and_gone_from_the_files(
    older: tuple[Database, Path], tmp_path: Path
) -> None:
    database, folder = older
    cipher = SpecCipher(database, LocalKeyring.create(tmp_path / "keyring.json"))
    group = a_group()
    long = CANARY + "x" * 30_000  # in overflow pages of SQLite, in the TOAST table of PostgreSQL
    readmes = [long if number % 10 == 0 else CANARY for number in range(120)]
    await fill(database, group, readmes)
    await checkpoint(database)
    assert secrets_found([folder], {"canary": CANARY}) != []

    await migrate(database, cipher)
    await checkpoint(database)
    assert secrets_found([folder], {"canary": CANARY}) == []
    catalog = SqlGroupCatalog(database, SystemClock(), cipher)
    listed, _ = await catalog.page("acme", "shop", limit=500, max_spec_bytes=10**9)
    found = {each.key.name: each.spec for each in listed}
    assert found == {f"web-{number}": SPEC | {"readme": readme} for number, readme in enumerate(readmes)}
    stored = await catalog.version(found_id(group, 0), 1)
    assert stored is not None
    assert stored.configuration == configuration_of(SPEC)
    await migrate(database, cipher)


async def test_a_schema_with_plaintext_is_not_finished_while_an_old_server_writes(
    older: tuple[Database, Path],
) -> None:
    database, _ = older
    await database.migrate("0119")
    await fill(database, a_group(), [CANARY])
    with pytest.raises(RuntimeError, match="older version"):
        await database.migrate()


def found_id(group: Group, number: int) -> str:
    return f"{group.id[:-3]}{number:03}"


async def fill(database: Database, group: Group, readmes: Sequence[str]) -> None:
    """Store groups as an older version did, each with a version that has an image."""
    same = ("organization", "project", "image", "version", "status", "status_description", "job_id")
    times = ("status_since", "created_at", "updated_at")
    old_groups = table(
        "groups",
        *(column(name, groups.c[name].type) for name in ("id", "name", "autostart", *same, *times)),
        column("spec", JSON),
    )
    old_versions = table(
        "versions",
        *(column(name) for name in ("group_id", "version", "repository", "image_id")),
        column("created_at", versions.c.created_at.type),
        column("configuration", JSON),
    )
    facts = dict.fromkeys(same, "x") | {
        "organization": "acme",
        "project": "shop",
        "version": 1,
        "status": "stopped",
    }
    image = {"id": "image", "organization": "acme", "manifest_digest": "x", "platform": "x", "size_bytes": 1}
    async with database.write() as connection:
        await connection.execute(
            insert(images).values(**image, created_at=NOW, digest=str(Digest.of(b"an image")))
        )
        for number, readme in enumerate(readmes):
            named = {"id": found_id(group, number), "name": f"web-{number}", "autostart": False}
            spec = SPEC | {"readme": readme}
            await connection.execute(
                insert(old_groups).values(**facts, **named, **dict.fromkeys(times, NOW), spec=spec)
            )
            stored = {"group_id": named["id"], "version": 1, "repository": "r", "image_id": "image"}
            await connection.execute(
                insert(old_versions).values(
                    **stored, created_at=NOW, configuration=dict(configuration_of(spec))
                )
            )


async def checkpoint(database: Database) -> None:
    """Write all pages to the files of the tables."""
    statement = "PRAGMA wal_checkpoint(PASSIVE)" if database.is_sqlite else "CHECKPOINT"
    async with database.read() as connection:
        await connection.execute(text(statement))
