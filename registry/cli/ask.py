"""Shared code of commands that make one request to the server."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from registry.cli.client import ApiClient, connect
from registry.cli.output import run


def ask(data_dir: Path, question: Callable[[ApiClient], Awaitable[Any]]) -> Any:  # noqa: ANN401 (JSON)
    """Send one request to the configured server and return the answer. An error ends the command."""

    async def asked() -> Any:  # noqa: ANN401
        async with connect(data_dir) as client:
            return await question(client)

    return run(asked())
