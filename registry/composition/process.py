"""One server process with its roles and listeners."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from registry.api.health import HealthApi, Readiness
from registry.composition.api import compose_api
from registry.composition.imports import compose_import
from registry.composition.listener import Listener
from registry.composition.pull import compose_pull, compose_token
from registry.composition.shared import open_shared
from registry.composition.upkeep import compose_upkeep
from registry.config import Role, Settings
from registry.datadir import DataDir
from registry.imports.worker import ImportWorker


@dataclass(frozen=True, slots=True)
class Composition:
    """One server process, composed.

    Attributes:
        main: What the main listener answers.
        admin: What the administration listener answers; None without one.
        worker: The import role; None where this process does not import.
        upkeep: Runs for as long as the process; None where it does not collect.
    """

    main: web.Application
    admin: web.Application | None
    worker: ImportWorker | None
    upkeep: Callable[[], Awaitable[None]] | None = None


@asynccontextmanager
async def compose(settings: Settings, data: DataDir, redis_url: str) -> AsyncIterator[Composition]:
    """Build one server process, and close what it opened, in reverse order, at the end.

    Args:
        settings: Validated.
        data: A data folder after its first start, with a migrated catalog.
        redis_url: URL of the token ledger.
    """
    async with AsyncExitStack() as stack:
        shared = await open_shared(settings, data, redis_url, stack)
        worker = compose_import(shared) if Role.IMPORT in settings.roles else None
        upkeep = compose_upkeep(shared) if Role.IMPORT in settings.roles else None
        main, admin = Listener(), Listener() if settings.admin_listener else None
        readiness = Readiness(shared.probes)
        main.routes += HealthApi(readiness, shared.metrics, details=admin is None).routes()
        if admin is not None:
            admin.routes += HealthApi(readiness, shared.metrics, details=True).routes()
        if Role.PULL in settings.roles:
            main.mounted.update(compose_pull(shared))
        if Role.TOKEN in settings.roles:
            tokens = compose_token(shared)
            main.mounted["/token"] = tokens.app()
            main.routes.append(web.get("/.well-known/jwks.json", tokens.jwks))
        if Role.API in settings.roles:
            compose_api(shared, worker.nudge if worker else _no_worker, main, admin)
        yield Composition(
            main.application(shared),
            admin.application(shared) if admin else None,
            worker,
            upkeep,
        )


def _no_worker() -> None:
    """Do nothing: workers in other processes poll for jobs once a second."""
