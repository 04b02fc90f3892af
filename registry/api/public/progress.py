"""Progress of a group's import: one response, or a stream (docs/public-api.md, "Progress")."""

import asyncio
from contextlib import suppress
from typing import Annotated, ClassVar, Final, Literal

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse
from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.http.event_stream import open_stream
from registry.api.public.application import GROUP, READ, group_key
from registry.api.public.authentication import HEADER, Authenticate
from registry.api.public.shapes import Count, Shape
from registry.errors import CatalogUnavailableError, NotFoundError
from registry.model.groups import GroupKey, GroupStatus
from registry.services.groups import ContainerGroups
from registry.services.quotas import OrganizationQuotas
from registry.services.views import GroupView

_POLL_S: Final = 0.5


class Figures(Shape):
    """Progress of an import. Bytes are compressed bytes."""

    stage: Literal["pulling", "compressing", "storing"]
    layers_done: Count
    layers_total: Count
    bytes_done: Count
    bytes_total: Count
    percent: Annotated[int, Field(ge=0, le=100)] | None
    bytes_per_s: Count
    eta_s: Count | None


class ContainerGroupProgress(Shape):
    """A group's status and the progress of its import; `progress` is null if no import runs."""

    status: Literal["pending", "running", "stopped", "succeeded", "failed", "deploying"]
    description: str
    progress: Figures | None

    @classmethod
    def of(cls, view: GroupView) -> "ContainerGroupProgress":
        """Present the progress of a group's import."""
        figures = None
        if (known := view.progress) is not None:
            figures = Figures(
                stage=known.stage.value,
                layers_done=known.layers_done,
                layers_total=known.layers_total,
                bytes_done=known.bytes_done,
                bytes_total=known.bytes_total,
                percent=known.percent,
                bytes_per_s=known.bytes_per_s,
                eta_s=known.eta_s,
            )
        return cls(status=view.group.status.value, description=view.description, progress=figures)


class ProgressApi:
    """Operation that returns the progress of an import: JSON, or events if `Accept` names them."""

    tag: ClassVar[str] = "container groups"

    def __init__(
        self,
        groups: ContainerGroups,
        quotas: OrganizationQuotas,
        authenticate: Authenticate,
        *,
        poll_s: float = _POLL_S,
    ) -> None:
        self._groups = groups
        self._quotas = quotas
        self._authenticate = authenticate
        self._poll_s = poll_s
        self._stopping = asyncio.Event()

    async def stop(self, _app: web.Application) -> None:
        """End all streams so that the server can stop. Readers reconnect automatically."""
        self._stopping.set()

    @Endpoint("GET", f"{GROUP}/progress", "The group's status and the progress of its import.", errors=READ)
    async def get_container_group_progress(
        self, call: Call[None]
    ) -> ContainerGroupProgress | EventSourceResponse:
        """Get the progress of a group's import.

        With `Accept: text/event-stream`, the response is a stream of all changes until the import ends or the
        API key is revoked.
        """
        key = group_key(call)
        view = await self._groups.get(key)
        if "text/event-stream" not in call.request.headers.get(hdrs.ACCEPT, ""):
            return ContainerGroupProgress.of(view)
        limit = (await self._quotas.of(key.organization)).streams
        with self._quotas.stream(key.organization, limit):
            async with open_stream(call.request) as stream:
                with suppress(TimeoutError, CatalogUnavailableError, NotFoundError, ConnectionError):
                    await self._send(stream, key, view, call.request.headers.get(HEADER))
            return stream

    async def _send(
        self, stream: EventSourceResponse, key: GroupKey, view: GroupView, api_key: str | None
    ) -> None:
        """Send all changes until the import ends, with the last event `settled`, or the key is revoked."""
        sent = None
        while view.group.status is GroupStatus.PENDING and not self._stopping.is_set():
            document = ContainerGroupProgress.of(view)
            if document != sent:
                await stream.send(document.model_dump_json(), event="progress")
                sent = document
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._poll_s)
            if not await self._authenticate.is_valid(api_key):
                return
            view = await self._groups.get(key)
        if view.group.status is not GroupStatus.PENDING:
            await stream.send(ContainerGroupProgress.of(view).model_dump_json(), event="settled")
