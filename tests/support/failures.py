"""docs/failures.md as a table: which sentences it has, and under which reason."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "failures.md"
GAP = "…"
#: Words with which a step begins, after the description of what happened.
STEP = re.compile(
    r"(?:[:.,;] (?:or )?|^)(?:ask|build|check|compress|copy|correct|create|do not|give|make|name|push|remove"
    r"|reduce|try|use|write)\b",
    re.IGNORECASE,
)


def documented() -> dict[str, list[str]]:
    """Return the sentences of each reason (`failed to pull` ...), as the document has them."""
    found: dict[str, list[str]] = {}
    reason = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            reason = line.removeprefix("## ").lower()
        elif line.startswith("| ") and not line.startswith("| sentence"):
            found.setdefault(reason, []).append(line.split(" | ")[0].removeprefix("| "))
    return found


def is_documented(reason: str, sentence: str) -> bool:
    """Return whether the document has this sentence, as a whole, under this reason."""
    return any(_pattern(each).fullmatch(sentence) for each in documented().get(reason, ()))


def quotes(part: str, sentence: str) -> bool:
    """Return whether a guide's `part`, which may have gaps of its own, is a part of a sentence."""
    # Numbers and hosts in the guide stand where the sentence has a gap.
    position = 0
    for piece in (piece.strip() for piece in part.split(GAP)):
        words = re.sub(r"\b\d+\b|\S+\.(?:ecr|com)\b\S*", "", piece).strip()
        found = re.search(re.escape(words).replace(r"\ \ ", r"\s+\S+\s+"), sentence[position:])
        if found is None:
            return False
        position += found.end()
    return True


def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile("(?s:.+)".join(re.escape(part) for part in sentence.split(GAP)))
