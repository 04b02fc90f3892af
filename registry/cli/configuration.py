"""Configuration file of the client commands (docs/command-line.md).

    # ~/.config/crisper/config.toml, or the file that --config or CRISPER_CONFIG names
    url = "https://registry.example.com"
    operator_url = "https://10.0.0.5:5001"  # of the operator API, if its own listener serves it
    ca = "registry-ca.pem"            # CA of the server's certificate, unless it is a public one
    api_key_file = "operator.key"     # or api_key = "...", if only you can read this file
    organization = "acme"
    project = "default"

Paths are relative to the file's folder. Options and environment variables override the file.
"""

import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import ConfigError

_PATHS: Final = ("ca", "api_key_file", "data_dir")


class ClientConfiguration(BaseModel):
    """Content of the configuration file; None for keys that it does not set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    url: str | None = None
    operator_url: str | None = None
    ca: Path | None = None
    api_key: str | None = Field(default=None, repr=False)
    api_key_file: Path | None = None
    organization: str | None = None
    project: str | None = None
    data_dir: Path | None = None

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read a configuration file. By default, the one at `usual_path`, if it exists.

        Raises:
            ConfigError: It cannot be read, is invalid, or contains a key that other users can read.
        """
        chosen = path or usual_path()
        try:
            text = chosen.read_text()
            mode = chosen.stat().st_mode
        except FileNotFoundError:
            if path is None:
                return cls()
            raise ConfigError(
                f"there is no configuration file {chosen}: check --config and CRISPER_CONFIG"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration file {chosen} cannot be read: {error}") from None
        try:
            read = cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{chosen} is not valid TOML: {error}") from None
        except ValidationError as error:
            wrong = "; ".join(
                f"{each['loc'][0]}: {each['msg']}" for each in error.errors(include_input=False)
            )
            raise ConfigError(f"{chosen}: {wrong}; the keys are {', '.join(cls.model_fields)}") from None
        if read.api_key is not None and mode & 0o077:
            raise ConfigError(
                f"other users can read {chosen}, which contains a key: run `chmod 600 {chosen}`"
            )
        return read.model_copy(update={name: _placed(chosen, getattr(read, name)) for name in _PATHS})

    def defaults(self, command: Any) -> dict[str, Any]:  # noqa: ANN401 (the command line library's own class)
        """Return the default values of a command's options, or of all commands of a group.

        Args:
            command: A command, or a group of them.
        """
        if nested := getattr(command, "commands", None):
            return {name: self.defaults(each) for name, each in nested.items()}
        options = {parameter.name for parameter in command.params}
        given = {"organization": self.organization, "project": self.project, "data_dir": self.data_dir}
        return {name: value for name, value in given.items() if name in options and value is not None}


CONFIGURED: Final[ContextVar[ClientConfiguration]] = ContextVar("configured")
"""Content of the configuration file, for the command that this process runs."""


def usual_path() -> Path:
    """Return the default path of the configuration file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "crisper" / "config.toml"


def _placed(file: Path, path: Path | None) -> Path | None:
    return None if path is None else file.absolute().parent / path.expanduser()
