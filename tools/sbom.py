"""Writes a CycloneDX bill of materials of the distribution, or of a container image.

    python -m tools.sbom >crisper.cdx.json
    docker run --rm --entrypoint cat IMAGE /var/lib/dpkg/status |
        python -m tools.sbom --dpkg-status - >image.cdx.json

The packages come from `uv.lock`, and for an image also from its dpkg database.
"""

import argparse
import email
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
_UV = ROOT / ".venv" / "bootstrap" / "bin" / "uv"
_EXPORT = ("export", "--locked", "--no-dev", "--extra", "tracing", "--format", "cyclonedx1.5", "--quiet")


def main() -> None:
    """Write the bill of materials to standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dpkg-status", metavar="FILE", help="dpkg's database of the image; - is standard input"
    )
    status = parser.parse_args().dpkg_status
    bill = distribution()
    if status is not None:
        text = sys.stdin.read() if status == "-" else Path(status).read_text()
        bill["components"] += debian_packages(text)
    json.dump(bill, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


def distribution() -> dict[str, Any]:
    """Return the locked packages as a CycloneDX document, the same for the same lock file.

    The time and the random serial number are left out, because a release must be reproducible.
    """
    shown = subprocess.run([_UV, *_EXPORT], cwd=ROOT, check=True, capture_output=True, text=True)
    bill: dict[str, Any] = json.loads(shown.stdout)
    del bill["serialNumber"], bill["metadata"]["timestamp"]
    for component in bill["components"]:
        component.pop("externalReferences", None)  # the index that this machine uses
    return bill


def debian_packages(status: str) -> Iterator[dict[str, Any]]:
    """Yield a component for each installed package of a dpkg database."""
    for stanza in status.split("\n\n"):
        fields = email.message_from_string(stanza)
        if (fields["Status"] or "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={fields['Architecture']}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
