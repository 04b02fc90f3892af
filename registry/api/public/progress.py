"""How far a group's import is: once, or as it goes (docs/public-api.md, "Progress")."""

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import hdrs, web

from registry.api.http import sse
from registry.errors import CatalogUnavailableError, NotFoundError
from registry.model.groups import GroupKey, GroupStatus
from registry.model.imports import Progress
from registry.services.groups import ContainerGroups
from registry.services.views import GroupView

MAX_READERS: Final = 64

_POLL_S: Final = 0.5


class ImportProgress:
    """Handler of a group's `progress`: JSON, or events for those who accept them."""

    def __init__(self, groups: ContainerGroups, *, poll_s: float = _POLL_S) -> None:
        self._groups = groups
        self._poll_s = poll_s
        self._stopping = asyncio.Event()
        self._readers = 0

    async def stop(self, _app: web.Application) -> None:
        """End every stream, so that the server can go; readers come back by themselves."""
        self._stopping.set()

    async def answer(self, request: web.Request, key: GroupKey) -> web.StreamResponse:
        """Answer where the import is. Raises NotFoundError."""
        view = await self._groups.get(key)
        if "text/event-stream" not in request.headers.get(hdrs.ACCEPT, ""):
            return web.json_response(_document(view), headers={hdrs.CACHE_CONTROL: "no-store"})
        if self._readers >= MAX_READERS:
            raise web.HTTPServiceUnavailable(text="Too many readers of progress; ask again and again.")
        self._readers += 1
        try:
            response = sse.stream()
            await response.prepare(request)
            with suppress(TimeoutError, CatalogUnavailableError, NotFoundError, ConnectionError):
                await self._send(response, key, view)
            return response
        finally:
            self._readers -= 1

    async def _send(self, response: web.StreamResponse, key: GroupKey, view: GroupView) -> None:
        """Tell every change, until the import has ended: that is the last event, named `settled`."""
        loop = asyncio.get_running_loop()
        told, spoke = None, loop.time()
        while view.group.status is GroupStatus.PENDING and not self._stopping.is_set():
            document = _document(view)
            if document != told:
                await sse.write(response, sse.message("progress", document))
                told, spoke = document, loop.time()
            elif loop.time() - spoke >= sse.HEARTBEAT_S:
                await sse.write(response, sse.SILENT)
                spoke = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._poll_s)
            view = await self._groups.get(key)
        if view.group.status is not GroupStatus.PENDING:
            await sse.write(response, sse.message("settled", _document(view)))


def _document(view: GroupView) -> dict[str, object]:
    return {
        "status": view.group.status.value,
        "description": view.description,
        "progress": None if view.progress is None else _progress(view.progress),
    }


def _progress(progress: Progress) -> dict[str, object]:
    return {
        "stage": progress.stage.value,
        "layers_done": progress.layers_done,
        "layers_total": progress.layers_total,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "percent": progress.percent,
        "bytes_per_s": progress.bytes_per_s,
        "eta_s": progress.eta_s,
    }
