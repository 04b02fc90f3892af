"""Storage, keys and the parts that the server's work depends on. For operators."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from auth.signing_keys import SigningKey
from registry.portal.guard import Guard
from registry.portal.pages import Pages
from registry.portal.services import Services
from registry.portal.sessions import SignedInUser

SYSTEM: Final = "/system"

_PROBE_S: Final = 3.0
_LIVE_S: Final = 10

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A signing key and what it is used for."""

    key_id: str
    state: str
    signs_from: datetime | None
    verifies_until: datetime | None


class SystemViews:
    """How the server is."""

    def __init__(self, guard: Guard, pages: Pages, services: Services) -> None:
        self._guard = guard
        self._pages = pages
        self._services = services

    def routes(self) -> list[web.RouteDef]:
        """Return the addresses."""
        return [web.get(SYSTEM, self._guard.show(self.show))]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show what answers, what is stored, and which keys there are."""
        visitor.require_operator()
        answers = await asyncio.gather(*map(_answers, self._services.probes.values()))
        objects, object_bytes = await self._services.overview.objects()
        occupancy = await self._services.overview.occupancy()
        nodes = await self._services.nodes.list()
        now = self._services.clock.now().timestamp()
        return self._pages.live(
            request,
            visitor,
            "system.html",
            "system_live.html",
            every_s=_LIVE_S,
            parts=dict(zip(self._services.probes, answers, strict=True)),
            objects=objects,
            object_bytes=object_bytes,
            occupancy=occupancy,
            wrapping_keys=await self._services.overview.wrapping_keys(),
            signing_keys=[_row(key, now) for key in self._services.signing_keys()],
            imports=await self._services.overview.imports(),
            damaged=await self._services.overview.damaged(),
            chores=await self._services.overview.chores(),
            nodes=[node for node in nodes if node.revoked_at is None],
            struck_off=sum(node.revoked_at is not None for node in nodes),
        )


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            await probe()
    except Exception:  # noqa: BLE001 (whatever it is, this part does not answer)
        return False
    return True


def _row(key: SigningKey, now: float) -> SigningKeyRow:
    return SigningKeyRow(key.key_id, key.state(now).value, _time(key.signs_from), _time(key.verifies_until))


def _time(seconds: float | None) -> datetime | None:
    """Return a time; the first key signs from the beginning of time, which is none to show."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
