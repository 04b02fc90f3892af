"""What a server's first start makes: keys of every kind, the catalog, a first organization."""

from auth.nodes.ca import NodeCA
from auth.signing_keys import LocalSigningKeys
from registry.app import database_url, open_blobs
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.config import Settings
from registry.datadir import DataDir
from registry.errors import ConfigError
from registry.model.organizations import Organization
from storage.keys.local import LocalKeyring

DEFAULT_ORGANIZATION = "default"


def ensure_secrets(settings: Settings, data: DataDir) -> None:
    """Draw every secret that is not there yet; each file is 0600 and appears whole or not at all."""
    data.ensure_operator_key()
    keyring = settings.key_location.file
    if keyring is not None and not keyring.exists():
        LocalKeyring.create(keyring)
    if not any(data.signing_keys.glob("*.json")):
        LocalSigningKeys.create(data.signing_keys)
    if not data.node_ca.exists():
        NodeCA.create(data.node_ca)


def refuse_missing(settings: Settings, data: DataDir) -> None:
    """Refuse to start without secrets that other servers may have: one with keys of its own trusts nobody's.

    Raises:
        ConfigError: Names what is missing.
    """
    keyring = settings.key_location.file
    files = [data.operator_key, data.node_ca, *([keyring] if keyring else [])]
    missing = [str(path) for path in files if not path.exists()]
    if not any(data.signing_keys.glob("*.json")):
        missing.append(str(data.signing_keys))
    if missing:
        lines = "\n  ".join(missing)
        raise ConfigError(
            "CRISPER_ENV=production draws no keys; `crisper init` does, once for all replicas. "
            f"Missing:\n  {lines}"
        )


async def prepare(settings: Settings, data: DataDir) -> None:
    """Migrate the catalog, take away what writers that were killed left in storage."""
    database = Database(database_url(settings, data))
    try:
        await database.migrate()
        await _ensure_default_organization(database)
        keys = settings.key_location.open()
        blobs = open_blobs(settings, keys, database)
        try:
            await blobs.recover()
        finally:
            await blobs.aclose()
            await keys.aclose()
    finally:
        await database.close()


async def _ensure_default_organization(database: Database) -> None:
    """Make the organization that the command line uses; it has no API key until one is made for it."""
    organizations = SqlOrganizationDirectory(database)
    if await organizations.get(DEFAULT_ORGANIZATION) is None:
        await organizations.add(Organization(DEFAULT_ORGANIZATION, SystemClock().now()))
