"""Import an image, mint a token, pull with it, and show what is refused, in one minute (`make demo`).

Every step is a real `crisper` command against a real server with embedded defaults. The upstream is a
temporary registry with Basic credentials (`demo_upstream.py`), unless you name an image:

    make demo IMAGE=docker.io/library/alpine:3
    make demo IMAGE=ghcr.io/acme/app:1 LOGIN=acme      a private image; reads PASSWORD, or asks for it
    make demo IMAGE=192.0.2.7:5000/app:1 INSECURE=1    a registry without TLS
    make demo KEEP=1                                   the server stays for a look at the portal
"""

import argparse
import contextlib
import getpass
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console

CRISPER = Path(sys.executable).with_name("crisper")
UPSTREAM = Path(__file__).with_name("demo_upstream.py")
NAME = "demo"
WINDOW_BYTES = 64

console = Console(highlight=False)


class DemoError(Exception):
    """A step had an unexpected result."""


def say(text: str) -> None:
    """Print the title of a step."""
    console.print(f"\n[bold]{text}[/bold]")


def run(*arguments: str, stdin: str = "", fails: bool = False, **environment: str) -> str:
    """Print a `crisper` command, run it, and return its output.

    Args:
        fails: Whether the command must fail. If so, returns its error output.
    """
    console.print(f"[dim]$ crisper {' '.join(arguments)}[/dim]")
    done = subprocess.run(
        [CRISPER, *arguments],
        input=stdin,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if fails else None,
        env=os.environ | environment,
    )
    output = (done.stderr if fails else done.stdout).strip()
    if (done.returncode != 0) != fails:
        raise DemoError(f"crisper {arguments[0]} {arguments[1]} exited with {done.returncode}: {output}")
    return output


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers, with any status."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)  # noqa: S310 (our own loopback address)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise DemoError(f"no server answers at {url}")


def events(url: str, key: str) -> list[dict[str, str]]:
    """Read the audit trail."""
    request = urllib.request.Request(f"{url}/api/v1/events", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (our own loopback address)
        return list(json.load(answer)["items"])


def holds(folder: Path, window: bytes) -> bool:
    """Return whether any file below a folder contains these bytes."""
    return any(window in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def journey(image: str, login: tuple[str, str] | None, url: str, home: Path) -> None:
    """Run all steps once."""
    data = home / "data"
    say("1. Import a customer's image: log in, verify, encrypt, then delete the credential")
    credential = ("--username", login[0], "--password-stdin") if login else ()
    console.print(run("image", "import", image, "--name", NAME, *credential, stdin=login[1] if login else ""))

    say("2. Create two nodes, and mint a token for the first")
    nodes = {name: json.loads(run("node", "create", name, "--json")) for name in ("pc-1", "pc-2")}
    minted = json.loads(run("token", "mint", NAME, "--node", "pc-1", "--json"))
    reference, token = minted["image"]["reference"], minted["token"]
    console.print(f"{reference}  for {minted['username']}, until {minted['expires_at']}")

    def pull(node: str, folder: str, *, fails: bool) -> str:
        return run(
            *("node", "pull", reference, "--output", str(home / folder), "--plain-http"),
            fails=fails,
            CRISPER_NODE_ID=node,
            CRISPER_PULL_TOKEN=token,
            CRISPER_NODE_SECRET=nodes[node]["node_secret"],
        )

    say("3. The second node has stolen the token and tries to pull")
    console.print(f"[red]{pull('pc-2', 'stolen', fails=True)}[/red]")

    say("4. The first node pulls and verifies every digest")
    console.print(pull("pc-1", "layout", fails=False))
    run("token", "complete", minted["token_id"])

    say("5. The first node tries the same token again")
    console.print(f"[red]{pull('pc-1', 'again', fails=True)}[/red]")

    say("6. The audit trail has the causes of the refusals, and the disk has no plaintext")
    key = (data / "operator.key").read_text().strip()
    for event in events(url, key):
        if event["type"] == "token.refused":
            console.print(f"{event['time']}  {event['node_id']}  {event['cause']}")
    layer = max((home / "layout" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    window = layer.read_bytes()[:WINDOW_BYTES]
    if holds(data, window):
        raise DemoError("the data folder contains a layer in plaintext")
    console.print(f"no file in the data folder has the first {WINDOW_BYTES} bytes of layer {layer.name[:12]}")


def look_around(url: str, home: Path) -> None:
    """Say how to look at the running server, and wait for Ctrl-C."""
    data = home / "data"
    lines = (
        "\n[bold]The server runs until you press Ctrl-C.[/bold]",
        f"Portal: {url}/",
        f"Sign in with the key in {data / 'operator.key'}",
        f"Next: {CRISPER} token mint {NAME} --node pc-1 --data-dir {data}",
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def arguments() -> argparse.Namespace:
    """Return the arguments that `make demo` passes on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", nargs="?", help="image to import instead of the demo's own")
    parser.add_argument(
        "--login", metavar="USER", help="user name; the password is in PASSWORD, or asked for"
    )
    parser.add_argument("--insecure", action="store_true", help="the registry has no TLS")
    parser.add_argument("--keep", action="store_true", help="leave the server running for a look")
    return parser.parse_args()


def main() -> int:
    """Start the servers, run all steps, stop the servers."""
    options = arguments()
    started, processes = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="crisper-demo-") as folder:
        home, port = Path(folder), free_port()
        url = f"http://127.0.0.1:{port}"
        os.environ |= {"CRISPER_DATA_DIR": str(home / "data")}
        serve: list[str | Path] = [CRISPER, "serve", "--port", str(port)]
        image, login = options.image or "", None
        if options.login:
            password = os.environ.get("PASSWORD") or getpass.getpass(f"Password of {options.login}: ")
            login = (options.login, password)
        if options.insecure:
            serve += ["--insecure-registry", image.partition("/")[0]]
        log = (home / "server.log").open("wb")
        try:
            if not image:
                upstream, login = f"127.0.0.1:{free_port()}", ("customer", secrets.token_urlsafe(12))
                image = f"{upstream}/shop/hello:1"
                command: list[str | Path] = [sys.executable, UPSTREAM, upstream.rpartition(":")[2], *login]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
                wait_for(f"http://{upstream}/v2/", processes[-1])
                serve += ["--insecure-registry", upstream]
            processes.append(subprocess.Popen(serve, stdout=log, stderr=log))
            wait_for(f"{url}/readyz", processes[-1])
            journey(image, login, url, home)
            if options.keep:
                look_around(url, home)
        except DemoError as error:
            console.print(f"\n[bold red]{error}[/bold red]\n{(home / 'server.log').read_text()[-4000:]}")
            return 1
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
                process.wait(30)
            log.close()
    console.print(
        f"\n[bold green]Done in {time.monotonic() - started:.0f} s.[/bold green] All servers are stopped."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
