"""Reads the settings, and refuses variables that look like settings and are none."""

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from registry.config import Settings
from registry.errors import ConfigError

PREFIX: Final = "CRISPER_"
# Variables that are no settings of the server: of the client commands, nodes, deploy/compose.yaml and tests.
_OTHERS: Final = frozenset(
    {
        *("API_KEY", "CA", "CONFIG", "OPERATOR_URL", "ORGANIZATION", "PROJECT", "URL"),
        *("CREDENTIALS", "ENROLMENT_SECRET", "NODE_ID", "NODE_SECRET", "PULL_TOKEN"),
        *("CATALOG_PASSWORD", "HOSTNAME", "LEDGER_PASSWORD", "LISTEN", "OBJECTS_SECRET"),
    }
)
_INTERNAL: Final = ("TEST_", "WORKER_")
# What Kubernetes sets for services whose names begin with `crisper`.
_SERVICE: Final = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)|\w+_PORT")


def read_settings(**given: Any) -> Settings:  # noqa: ANN401 (values of any setting)
    """Read the settings from the environment; those given take precedence.

    Raises:
        ConfigError: A variable `CRISPER_...` is no setting.
        ValidationError: A value is invalid.
    """
    if lines := list(unknown(os.environ, Settings.model_fields)):
        raise ConfigError("\n  ".join(["the environment has variables that are no settings:", *lines]))
    return Settings(**given)


def unknown(environment: Mapping[str, str], settings: Iterable[str]) -> Iterable[str]:
    """Return a line for each variable that looks like a setting and is none, with what it may mean.

    Args:
        settings: Names of the settings, without `CRISPER_`, in lower case.
    """
    known = {name.upper() for name in settings}
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known | _OTHERS:
            continue
        if name.startswith(_INTERNAL) or _SERVICE.fullmatch(name):
            continue
        by_letters = {each.replace("_", ""): each for each in known}
        meant = get_close_matches(name.replace("_", ""), by_letters, n=1)
        yield (
            f"{variable}: did you mean {PREFIX}{by_letters[meant[0]]}?" if meant else f"{variable}: unset it"
        )
