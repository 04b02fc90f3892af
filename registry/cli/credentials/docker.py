"""`docker-credential-crisper`: Docker's credential-helper protocol, for Docker, Podman and skopeo.

A client with `{"credHelpers": {"registry.example.com": "crisper"}}` in its configuration runs this program at
every pull (github.com/docker/docker-credential-helpers, "Development").
"""

import json
import sys
from typing import Final

from registry.cli.credentials.source import SourceError, ask

NOT_FOUND: Final = "credentials not found in native keychain"
"""Message by which clients recognize that there is no credential, as opposed to an error."""

_MAX_CHARS = 1 << 20


def main() -> None:
    """Answer one request: action as argument, input on standard input, answer or error on standard output."""
    action = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        sys.stdout.write(_answer(action))
    except SourceError as error:
        sys.stdout.write(f"{error}\n")
        raise SystemExit(1) from None


def _answer(action: str) -> str:
    match action:
        case "get":
            return _get(sys.stdin.read(_MAX_CHARS).strip())
        case "list":
            return "{}\n"
        case "erase":
            sys.stdin.read(_MAX_CHARS)
            return ""  # nothing is stored
        case "store":
            sys.stdin.read(_MAX_CHARS)
            raise SourceError("pull tokens are not stored: each one is valid for one pull only")
    raise SourceError("usage: docker-credential-crisper get|store|erase|list")


def _get(server: str) -> str:
    found = ask(server)
    if found is None:
        raise SourceError(NOT_FOUND)
    return json.dumps({"ServerURL": server, "Username": found.username, "Secret": found.password}) + "\n"


if __name__ == "__main__":
    main()
