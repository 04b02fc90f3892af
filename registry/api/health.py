"""Liveness, readiness and metrics endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs, web

from auth.errors import AuthError
from registry.errors import RegistryError
from registry.observe import Metrics
from storage.errors import StorageError

PROBE_TIMEOUT_S: Final = 3.0
SHARED_S: Final = 2.0  # for which all requests share one check

_CAUSES: Final = 4
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger(__name__)

Probe = Callable[[], Awaitable[None]]


class Readiness:
    """Checks all dependencies, one check at a time. Requests within two seconds share its result.

    Args:
        probes: Checks, by the dependency's name as operators see it. They write nothing.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._lock = asyncio.Lock()
        self._failing: Sequence[str] = ()
        self._expires_at: float | None = None

    async def failing(self) -> Sequence[str]:
        """Return the names of the dependencies that failed in the last check, at most two seconds ago."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._expires_at is None or loop.time() >= self._expires_at:
                errors = await asyncio.gather(*map(_check, self._probes.values()))
                failed = {name: error for name, error in zip(self._probes, errors, strict=True) if error}
                self._log_changes(failed)
                self._failing = list(failed)
                self._expires_at = loop.time() + SHARED_S
        return self._failing

    def _log_changes(self, failed: Mapping[str, Exception]) -> None:
        """Log each dependency when it fails, with the cause, and when it works again."""
        for name in [name for name in failed if name not in self._failing]:
            _log.error("dependency.failed", dependency=name, cause=_cause(failed[name]))
        for name in [name for name in self._failing if name not in failed]:
            _log.info("dependency.recovered", dependency=name)


class HealthApi:
    """Handlers of `/healthz`, `/readyz` and `/metrics`.

    Args:
        details: Whether `/readyz` names the dependencies that fail.
    """

    def __init__(self, readiness: Readiness, metrics: Metrics, *, details: bool) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._details = details

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, with `/metrics` only if there are details."""
        exposed = [web.get("/metrics", self.metrics)] if self._details else []
        return [web.get("/healthz", self.alive), web.get("/readyz", self.ready), *exposed]

    async def alive(self, _request: web.Request) -> web.Response:
        """Respond 200: the event loop runs."""
        return web.json_response({"status": "alive"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Respond 200 if all dependencies work, else 503."""
        failing = await self._readiness.failing()
        status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
        details = {"failing": failing} if self._details else {}
        return web.json_response({"ready": not failing, **details}, status=status)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics in Prometheus' text format."""
        return web.Response(body=self._metrics.render(), headers={hdrs.CONTENT_TYPE: _EXPOSITION})


async def _check(probe: Probe) -> Exception | None:
    """Return the error of a dependency, or None."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe()
    except Exception as error:  # noqa: BLE001 (any error means that the dependency fails)
        return error
    return None


def _cause(error: Exception) -> str:
    """Describe an error and its causes. Texts of libraries' errors are left out: they can have secrets."""
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None and len(parts) < _CAUSES:
        own = isinstance(each, (AuthError, RegistryError, StorageError))
        parts.append(f"{type(each).__name__}: {each}" if own and str(each) else type(each).__name__)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "; ".join(parts)
