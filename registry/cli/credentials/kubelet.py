"""`crisper-credential-provider`: a kubelet credential-provider plugin (credentialprovider.kubelet.k8s.io/v1).

The kubelet runs it at every pull. The answer forbids caching, because a token is valid for one pull only.
"""

import json
import sys

from registry.cli.credentials.source import SourceError, ask, repository

_API = "credentialprovider.kubelet.k8s.io/v1"
_MAX_CHARS = 1 << 20


def main() -> None:
    """Answer the request on standard input."""
    try:
        sys.stdout.write(json.dumps(respond(sys.stdin.read(_MAX_CHARS))) + "\n")
    except SourceError as error:
        sys.stderr.write(f"crisper-credential-provider: {error}\n")
        raise SystemExit(1) from None


def respond(text: str) -> dict[str, object]:
    """Return a CredentialProviderResponse to a CredentialProviderRequest.

    Raises:
        SourceError: The request has another kind or version, or the token source fails.
    """
    try:
        request = json.loads(text)
    except ValueError:
        request = None
    match request:
        case {"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": str(image)} if "/" in image:
            found = ask(image.partition("/")[0], image)
        case _:
            raise SourceError(
                f"the request is not a CredentialProviderRequest of {_API}: check the kubelet's configuration"
            )
    auth = {repository(image): {"username": found.username, "password": found.password}} if found else {}
    return {
        "apiVersion": _API,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Image",
        "cacheDuration": "0s",
        "auth": auth,
    }


if __name__ == "__main__":
    main()
