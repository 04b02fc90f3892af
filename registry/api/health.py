"""Liveness, readiness and metrics endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from registry.observe import Metrics

PROBE_TIMEOUT_S: Final = 3.0

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

Probe = Callable[[], Awaitable[None]]


class HealthApi:
    """Handlers of `/healthz`, `/readyz` and `/metrics`.

    Args:
        probes: Checks of the server's dependencies, by the name that operators know.
    """

    def __init__(self, probes: Mapping[str, Probe], metrics: Metrics) -> None:
        self._probes = probes
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/healthz", self.alive),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def alive(self, _request: web.Request) -> web.Response:
        """Respond 200: the event loop runs."""
        return web.json_response({"status": "alive"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Respond 200 if all dependencies work, else 503 with the names of those that fail."""
        answers = await asyncio.gather(*(_answers(probe) for probe in self._probes.values()))
        failing = [name for name, well in zip(self._probes, answers, strict=True) if not well]
        status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
        return web.json_response({"ready": not failing, "failing": failing}, status=status)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics in Prometheus' text format."""
        text = self._metrics.render()
        return web.Response(
            body=text, headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"}
        )


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await probe()
    except Exception:  # noqa: BLE001 (any error means that the dependency fails)
        return False
    return True
