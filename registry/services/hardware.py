"""Reads the operator's file of GPU classes and availability (`CRISPER_HARDWARE_FILE`)."""

import asyncio
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from registry.errors import ConfigError
from registry.model.hardware import Hardware

MAX_FILE_BYTES: Final = 1 << 20

_log = structlog.get_logger(__name__)


class HardwareFile:
    """The hardware in a file, which is read again when it has changed.

    A file that becomes invalid while the server runs is logged; the previous content stays.

    Args:
        path: None if the operator publishes no hardware.

    Raises:
        ConfigError: The file is invalid.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._state: tuple[int, int] | None = None
        self._hardware = Hardware()
        if path is not None:
            self._state, self._hardware = _state(path), _read(path)

    async def hardware(self) -> Hardware:
        """Return the current hardware."""
        if self._path is not None:
            await asyncio.to_thread(self._refresh, self._path)
        return self._hardware

    def _refresh(self, path: Path) -> None:
        try:
            state = _state(path)
            if state != self._state:
                self._hardware = _read(path)
                self._state = state
        except ConfigError as error:
            _log.warning("hardware.invalid", error=str(error))


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"CRISPER_HARDWARE_FILE: {path} cannot be read ({error.strerror})") from None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> Hardware:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ConfigError(f"CRISPER_HARDWARE_FILE: {path} has more than {MAX_FILE_BYTES} bytes")
        return Hardware.model_validate_json(text)
    except OSError as error:
        raise ConfigError(f"CRISPER_HARDWARE_FILE: {path} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) or "the file" for fault in error.errors()[:5])
        raise ConfigError(f"CRISPER_HARDWARE_FILE: {path} is not valid: {where}") from None
