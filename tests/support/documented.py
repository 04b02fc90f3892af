"""Command blocks of documentation pages, as a shell script that a test can run.

A mark before a block, `<!-- not run: REASON -->` or `<!-- fails: TEXT -->`, says that the block is not run,
or that it fails and prints TEXT.
"""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^>]+) -->\n\n?)?"
    r"(?:^ *<!-- fails: (?P<failure>[^>]+) -->\n\n?)?"
    r"^ *```(?:bash|sh|console)\b.*\n(?P<body>(?s:.*?))^ *```",
    re.MULTILINE,
)
_PROMPT = re.compile(r"^[$#] ")


class Block(NamedTuple):
    """Commands of one block.

    Attributes:
        reason: Why the block is not run; None if it is.
        failure: Part of the output with which the block fails; None if it succeeds.
    """

    reason: str | None
    failure: str | None
    commands: str

    @property
    def script(self) -> str:
        """Return the commands, or a check that they fail as the page says."""
        if self.failure is None:
            return self.commands
        return (
            f"if {{ {self.commands}\n}} >failure.txt 2>&1; then exit 1; fi\n"
            f"cat failure.txt\ngrep -q -- '{self.failure}' failure.txt"
        )


def blocks(page: Path) -> list[Block]:
    """Return the command blocks of a page, in order."""
    return [
        Block(found["reason"], found["failure"], _commands(found["body"]))
        for found in _FENCE.finditer(page.read_text())
    ]


def script(page: Path, replaced: Mapping[str, str]) -> str:
    """Return the blocks of a page that are run.

    Args:
        replaced: Text of the page that a reader replaces with their own: host names, images, placeholders.
    """
    typed = "\n".join(block.script for block in blocks(page) if block.reason is None)
    for name, own in replaced.items():
        typed = typed.replace(name, own)
    return typed


def _commands(body: str) -> str:
    """Return what to type: in a block with prompts, the lines after a prompt and their continuations."""
    lines = textwrap.dedent(body).splitlines()
    if not any(map(_PROMPT.match, lines)):
        return "\n".join(lines)
    typed: list[str] = []
    for line in lines:
        if _PROMPT.match(line) or (typed and typed[-1].endswith("\\")):
            typed.append(_PROMPT.sub("", line))
    return "\n".join(typed)
