"""First start of a server: creates keys, the catalog and a first organization."""

from auth.nodes.ca import NodeCA
from auth.signing_keys import PUBLIC, LocalSigningKeys, write_public_parts
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.plaintext import migrate
from registry.catalog.specs import SpecCipher
from registry.composition.storage import database_url, open_blobs
from registry.config import SIGNING_ROLES, STORAGE_ROLES, Role, Settings
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
    write_public_parts(data.signing_keys)
    if not data.node_ca.exists():
        NodeCA.create(data.node_ca)


def refuse_missing(settings: Settings, data: DataDir) -> None:
    """Refuse to start if keys of the server's roles are missing.

    A server with keys of its own would not trust others'. The files of other roles may be absent.

    Raises:
        ConfigError: The message names the missing files.
    """
    roles, keyring = settings.roles, settings.key_location.file
    files = [data.node_ca / "certificate.pem"]
    if Role.API in roles:
        files += [data.operator_key, data.node_ca / "key.pem"]
    if keyring is not None and roles & STORAGE_ROLES:
        files.append(keyring)
    missing = [str(path) for path in files if not path.exists()]
    signs = bool(roles & SIGNING_ROLES)
    tokens = data.signing_keys if signs else data.signing_keys / PUBLIC
    if (signs or Role.PULL in roles) and not any(tokens.glob("*.json")):
        missing.append(str(tokens))
    if missing:
        lines = "\n  ".join(missing)
        raise ConfigError(
            "this server creates no keys (CRISPER_ENV=production, or it does not have the role api): "
            f"run `crisper init` once, and copy the files to all replicas. Missing:\n  {lines}"
        )


async def prepare(settings: Settings, data: DataDir) -> None:
    """Migrate the catalog, and remove unfinished objects of killed writers from storage."""
    database = Database(database_url(settings, data))
    try:
        if not settings.roles & STORAGE_ROLES:
            await migrate(database, None)
            return
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
