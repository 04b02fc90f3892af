"""First start of a server: creates keys, the catalog and a first organization."""

from auth.nodes.ca import NodeCA
from auth.signing_keys import LocalSigningKeys
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.plaintext import migrate
from registry.catalog.specs import SpecCipher
from registry.composition.storage import database_url, open_blobs
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError
from registry.model.organizations import Organization
from storage.keys.local import LocalKeyring

DEFAULT_ORGANIZATION = "default"


def ensure_secrets(settings: Settings, data: DataDir) -> None:
    """Create all missing secrets. Each file has mode 0600 and is written atomically."""
    data.ensure_operator_key()
    keyring = settings.key_location.file
    if keyring is not None and not keyring.exists():
        LocalKeyring.create(keyring)
    if not any(data.signing_keys.glob("*.json")):
        LocalSigningKeys.create(data.signing_keys)
    if not data.node_ca.exists():
        NodeCA.create(data.node_ca)


def refuse_missing(settings: Settings, data: DataDir) -> None:
    """Refuse to start if secrets are missing, because a server with its own keys would not trust others'.

    Raises:
        ConfigError: The message names the missing files.
    """
    keyring = settings.key_location.file
    files = [data.operator_key, data.node_ca, *([keyring] if keyring else [])]
    missing = [str(path) for path in files if not path.exists()]
    if not any(data.signing_keys.glob("*.json")):
        missing.append(str(data.signing_keys))
    if missing:
        lines = "\n  ".join(missing)
        raise ConfigError(
            "CRISPER_ENV=production creates no keys: run `crisper init` once, and copy the files to all "
            f"replicas. Missing:\n  {lines}"
        )


async def prepare(settings: Settings, data: DataDir) -> None:
    """Migrate the catalog, and remove unfinished objects of killed writers from storage."""
    database = Database(database_url(settings, data))
    try:
        keys = settings.key_location.open()
        try:
            await migrate(database, SpecCipher(database, keys))
            await _ensure_default_organization(database)
            blobs = open_blobs(settings, keys, database)
            try:
                await blobs.recover()
            finally:
                await blobs.aclose()
        finally:
            await keys.aclose()
    finally:
        await database.close()


async def _ensure_default_organization(database: Database) -> None:
    """Create the default organization of the command line. It has no API key at first."""
    organizations = SqlOrganizationDirectory(database)
    if await organizations.get(DEFAULT_ORGANIZATION) is None:
        await organizations.add(Organization(DEFAULT_ORGANIZATION, SystemClock().now()))
