"""Page for operators: health of the server's dependencies, storage, keys and nodes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from auth.signing_keys import SigningKey
from registry.model.access import Role
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

SYSTEM: Final = "/system"

_PROBE_S: Final = 3.0
_LIVE_S: Final = 10

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A signing key and its state."""

    key_id: str
    state: str
    signs_from: datetime | None
    verifies_until: datetime | None


class SystemViews(Views):
    """Views of the system page."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get(SYSTEM, self._guard.show(self.show, needs=Role.OPERATOR))]

    async def show(self, request: web.Request, visitor: SignedInUser) -> web.Response:
        """Show the health of the dependencies, the storage and the keys."""
        answers = await asyncio.gather(*map(_answers, self._services.probes.values()))
        objects, object_bytes = await self._services.overview.objects()
        occupancy = await self._services.overview.occupancy()
        active, revoked = await self._services.nodes.count()
        now = self._services.clock.now().timestamp()
        return self._pages.live(
            request,
            visitor,
            "system.html",
            "system_live.html",
            every_s=_LIVE_S,
            host=await asyncio.to_thread(self._services.host),
            parts=dict(zip(self._services.probes, answers, strict=True)),
            objects=objects,
            object_bytes=object_bytes,
            occupancy=occupancy,
            wrapping_keys=await self._services.overview.wrapping_keys(),
            signing_keys=[_row(key, now) for key in self._services.signing_keys()],
            imports=await self._services.overview.imports(),
            damaged=await self._services.overview.damaged(),
            chores=await self._services.overview.chores(),
            nodes=active,
            revoked=revoked,
        )


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            await probe()
    except Exception:  # noqa: BLE001 (any error means that this dependency does not answer)
        return False
    return True


def _row(key: SigningKey, now: float) -> SigningKeyRow:
    return SigningKeyRow(key.key_id, key.state(now).value, _time(key.signs_from), _time(key.verifies_until))


def _time(seconds: float | None) -> datetime | None:
    """Convert to a time. The first key signs from time 0, which is not shown."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
