"""Writes docs/reference/ from the code: commands, settings, metrics, events.

python docs/generate.py           write what differs
python docs/generate.py --check   say what differs, and exit with 1
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from registry.audit.types import EVENT_TYPES
from registry.cli.examples import EPILOG, EXAMPLES
from registry.cli.main import app
from registry.config import Settings
from registry.observe import Metrics

ROOT: Final = Path(__file__).parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"
_HEAD: Final = "<!-- Written by docs/generate.py from the code: change that, then run make reference. -->\n\n"
_ABOUT_SETTINGS: Final = """\
Environment variables for `crisper serve`, and for the commands that run on the server's machine. The options
of [`crisper serve`](command-line.md#crisper-serve) take precedence.

"""
_ABOUT_METRICS: Final = """\
At `/metrics`, in Prometheus' text format; of all workers of a server together. Alert rules:
`deploy/prometheus/rules.yaml`; a dashboard: `deploy/grafana/crisper.json`.

"""


def command_line() -> str:
    """Return every command with its options and examples."""
    parts = [
        _HEAD,
        "# Commands\n\n",
        f"{EPILOG}\n\n",
        "How commands find the server: [the command line](../command-line.md).\n",
    ]
    for name, command in commands(typer.main.get_command(app)):
        parts.append(f"\n## crisper {name}\n\n{_prose(command.help)}\n\n")
        parts.append("| | | default |\n|---|---|---|\n")
        parts += [_option(each) for each in command.params if each.name != "help"]
        parts.append("\n```console\n" + "".join(f"$ {line}\n" for line in EXAMPLES.get(name, ())) + "```\n")
    return "".join(parts)


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (the library's own class)
    """Yield every command with its words, in the order of `crisper --help`."""
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{path}{name} ")
        else:
            yield f"{path}{name}", each


def _option(parameter: Any) -> str:  # noqa: ANN401 (the library's own class)
    said = getattr(parameter, "help", None) or ""
    if variable := getattr(parameter, "envvar", None):
        said += f" (`{variable}`)"
    words = " ".join(f"`{word}`" for word in sorted(parameter.opts, key=len, reverse=True))
    if parameter.param_type_name == "argument":
        words = f"`{parameter.metavar or parameter.name.upper()}`"
    default = "required" if parameter.required else _default(parameter)
    return f"| {words} | {_cell(said)} | {_cell(default)} |\n"


def _default(parameter: Any) -> str:  # noqa: ANN401 (the library's own class)
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value in (None, False, ()) or callable(value) else f"`{value}`"


def settings() -> str:
    """Return every setting of a server."""
    said = _attributes(Settings.__doc__ or "")
    lines = [
        f"| `CRISPER_{name.upper()}` | {_cell(said.get(name, ''))} | {_cell(_setting(field))} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return "".join(
        (
            _HEAD,
            "# Settings\n\n",
            _ABOUT_SETTINGS,
            "| | | default |\n|---|---|---|\n",
            *lines,
        )
    )


def _setting(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, (frozenset, tuple)):
        return ",".join(f"`{each}`" for each in sorted(map(str, value)))
    return f"`{value}`"


def _attributes(docstring: str) -> dict[str, str]:
    """Read the "Attributes" section of a Google-style docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        if begun := re.match(r" {8}(\w+): (.*)", line):
            name = begun[1]
            found[name] = begun[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def metrics() -> str:
    """Return every metric at `/metrics`."""
    lines = []
    for metric in vars(Metrics()).values():
        labels = getattr(metric, "_labelnames", None)
        if labels is None:
            continue
        kind = type(metric).__name__.lower()
        (family,) = metric.describe()
        name = f"{family.name}_total" if kind == "counter" else family.name
        marked = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {marked} | {family.documentation} |\n")
    return "".join(
        (
            _HEAD,
            "# Metrics\n\n",
            _ABOUT_METRICS,
            "| | | labels | |\n|---|---|---|---|\n",
            *lines,
        )
    )


def events() -> str:
    """Return every type of event in the audit trail."""
    lines = [f"| `{name}` | {type_.sentence}. |\n" for name, type_ in EVENT_TYPES.items()]
    return "".join(
        (
            _HEAD,
            "# Events\n\nTypes of the audit trail ([operator API](../operator-api.md#the-audit-trail)).\n\n",
            "| | |\n|---|---|\n",
            *lines,
        )
    )


def _prose(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)\s*", " ", (text or "").strip())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


PAGES: Final = MappingProxyType(
    {"command-line.md": command_line, "settings.md": settings, "metrics.md": metrics, "events.md": events}
)


def main() -> None:
    """Write the pages, or say which are not up to date."""
    stale = [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text() != page()
    ]
    if "--check" in sys.argv:
        if stale:
            sys.exit(f"docs/reference is not up to date ({', '.join(stale)}): run make reference")
        return
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name]())


if __name__ == "__main__":
    main()
