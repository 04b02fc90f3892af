"""Write README's tables from the newest results, so that no figure there is typed by hand."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def newest(kind: str) -> dict[str, Any]:
    found = sorted((ROOT / "bench" / "results").glob(f"*-{kind}.json"), key=lambda path: path.stat().st_mtime)
    return dict(json.loads(found[-1].read_text()))


def memory_table() -> str:
    result = newest("memory")
    lines = ["| phase | took | server's peak resident memory |", "|---|---|---|"]
    for name, phase in result["phases"].items():
        lines.append(f"| {name} | {phase['duration_s']:.0f} s | {phase['peak_rss_mib']['server']:.0f} MiB |")
    size_gb = result["image"]["size_bytes"] / 1e9
    machine = result["machine"]
    where = f"{machine['cores']} cores, {machine['cpu']}; {result['date'][:10]}, commit {result['commit']}"
    lines += ["", f"{size_gb:.0f} GB in {result['image']['layers']} layers; {where}."]
    return "\n".join(lines)


def main() -> None:
    text = README.read_text()
    marker = "<!-- bench:memory -->"
    pattern = re.compile(f"{re.escape(marker)}\n.*?(?=\n## )", re.DOTALL)
    README.write_text(pattern.sub(f"{marker}\n\n{memory_table()}\n", text))


if __name__ == "__main__":
    main()
