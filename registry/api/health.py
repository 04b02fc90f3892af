"""Liveness, readiness and metrics endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from registry.observe import Metrics

PROBE_TIMEOUT_S: Final = 3.0
SHARED_S: Final = 2.0  # for which all requests share one check

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

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
                answers = await asyncio.gather(*(_answers(probe) for probe in self._probes.values()))
                self._failing = [name for name, well in zip(self._probes, answers, strict=True) if not well]
                self._expires_at = loop.time() + SHARED_S
        return self._failing


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


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe()
    except Exception:  # noqa: BLE001 (any error means that the dependency fails)
        return False
    return True
