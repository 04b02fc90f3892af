"""`crisper edge`: commands for edge caches."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.client import connect
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption
from registry.cli.output import run, say, show, table

edge_app = typer.Typer(no_args_is_help=True, help="Edge caches of encrypted layers.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the edge.")]


@edge_app.command("create")
def create(
    name: NameArgument,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where nodes reach the edge, https://HOST[:PORT].")
    ],
    serves: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Network of the nodes that are sent to it. Repeatable."),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Network from which it may fetch. Repeatable.")
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create an edge. Its key, for deploy/edge/nginx.conf, is shown only once."""
    body = {"name": name, "url": url, "serves": serves or [], "networks": network or []}
    made = ask(data_dir, lambda client: client.operator("POST", "/edges", body))
    show(made, as_json=as_json, rows=[("edge", made["name"]), ("url", made["url"]), ("key", made["key"])])


@edge_app.command("list")
def list_(data_dir: DataDirOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """List edges."""
    found = ask(data_dir, lambda client: client.operator("GET", "/edges"))["items"]
    columns = {"EDGE": "name", "URL": "url", "SERVES": "serves", "FETCHES FROM": "networks"}
    empty = "No edges. Create one: crisper edge create NAME URL"
    table(found, columns, as_json=as_json, empty=empty)


@edge_app.command("delete")
def delete(name: NameArgument, data_dir: DataDirOption = DATA_DIR) -> None:
    """Delete an edge. Its key is refused from now on."""
    ask(data_dir, lambda client: client.operator("DELETE", f"/edges/{quote(name, safe='')}"))
    say(f"deleted {name}")


@edge_app.command("prefetch")
def prefetch(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Digest of the image, sha256:...")],
    edge: Annotated[list[str], typer.Argument(metavar="EDGE...", help="Names of the edges, up to 16.")],
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Let edges fetch an image's encrypted layers before the first pull. Exits with 1 if one has failed."""
    result = run(_until_complete(digest, edge, data_dir, quiet=as_json))
    columns = {"EDGE": "edge", "BYTES": "bytes_done", "COMPLETE": "is_complete", "PROBLEM": "problem"}
    if as_json:
        show(result, as_json=True)
    else:
        table(result["edges"], columns, as_json=False, empty="")
    if not all(each["is_complete"] for each in result["edges"]):
        raise typer.Exit(1)


async def _until_complete(digest: str, names: list[str], data_dir: Path, *, quiet: bool) -> dict[str, Any]:
    """Call until each edge is complete or has a problem. The server limits the time of a call."""
    found: dict[str, Any] = {}
    start, left = 0, names
    async with connect(data_dir) as client:
        while left:
            body = {"digest": digest, "edges": left, "start": start}
            result = await client.operator("POST", "/prefetch", body)
            for each in result["edges"]:
                each["bytes_fetched"] += found.get(each["edge"], {}).get("bytes_fetched", 0)
                found[each["edge"]] = each
            waiting = [each for each in result["edges"] if not (each["is_complete"] or each["problem"])]
            left = [each["edge"] for each in waiting]
            done = min((each["bytes_done"] for each in waiting), default=start)
            if waiting and done == start:
                for each in waiting:
                    each["problem"] = "it made no progress: check its connection to the registry"
                break
            start = done
            if not quiet and left:
                say(f"{start:,} of {result['size']:,} bytes")
    return {**result, "edges": [found[name] for name in dict.fromkeys(names)]}
