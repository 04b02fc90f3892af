"""`crisper image`: stored images. `crisper image import` is with the groups, one of which it creates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from registry.cli.ask import ask
from registry.cli.options import DATA_DIR, DataDirOption, JsonOption, WideOption
from registry.cli.output import fail, print_json, show, table
from registry.cli.policies import verdict_rows
from registry.errors import ConfigError, NotFoundError
from registry.sizes import readable_bytes
from registry.trust.facts import SbomFormat

image_app = typer.Typer(no_args_is_help=True, help="Images.")


@image_app.command("list")
def list_images(
    organization: Annotated[
        str | None, typer.Option("--organization", "-o", help="Only images of this organization.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of images, newest first.")] = 100,
    wide: WideOption = False,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List stored images and the sizes of their zstd variants. Needs an operator key."""
    only = {"organization_name": organization, "limit": limit}

    found = ask(data_dir, lambda client: client.operator("GET", "/images", **only))["items"]
    shown = found if as_json else [_presented(image) for image in found]
    columns = {
        "ORGANIZATION": "organization_name",
        "DIGEST": "digest",
        "PLATFORM": "platform",
        "SIZE": "size_shown",
        "IN ZSTD": "zstd_shown",
        "SAVED": "saved",
    }
    empty = "No images. Import one: crisper image import IMAGE"
    table(shown, columns, as_json=as_json, empty=empty, wide=wide)


def _presented(image: Mapping[str, Any]) -> Mapping[str, Any]:
    zstd = image["zstd"]
    return {
        **image,
        "size_shown": readable_bytes(image["size"]),
        "zstd_shown": readable_bytes(zstd["size"]) if zstd else None,
        "saved": f"{image['gain']:.1%}",
    }


@image_app.command("show")
def show_image(
    digest: Annotated[str, typer.Argument(help="Digest of the image, or of one of its manifests.")],
    organization: Annotated[
        str | None, typer.Option("--organization", "-o", help="Only images of this organization.")
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a stored image and who signed it. Needs an operator key."""
    only = {"organization_name": organization, "digest": digest}
    found = ask(data_dir, lambda client: client.operator("GET", "/images", **only))["items"]
    if not found:
        fail(NotFoundError(f"no image has the digest {digest}: list them with `crisper image list`"))
    if as_json:
        print_json(found)
        return
    for image in found:
        zstd = image["zstd"]
        rows = [
            ("organization", image["organization_name"]),
            ("digest", image["digest"]),
            ("platform", image["platform"]),
            ("size", readable_bytes(image["size"])),
            ("in zstd", readable_bytes(zstd["size"]) if zstd else None),
            ("imported", image["created_at"]),
            *verdict_rows(image["verdict"]),
            *_fact_rows(image),
        ]
        show(image, as_json=False, rows=rows)


@image_app.command("sbom")
def download_sbom(
    digest: Annotated[str, typer.Argument(help="Digest of the image, or of one of its manifests.")],
    organization: Annotated[
        str | None, typer.Option("--organization", "-o", help="Only images of this organization.")
    ] = None,
    format_: Annotated[
        SbomFormat | None, typer.Option("--format", help="The wanted format; by default the first bill.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write.", show_default="standard output")
    ] = None,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Download the SBOM that is attached to a stored image. Needs an operator key."""
    path = f"/images/{quote(digest, safe=':')}/sbom"
    only = {"organization_name": organization, "format": format_ and format_.value}
    document = ask(data_dir, lambda client: client.operator_file(path, **only))
    if output is None:
        typer.get_binary_stream("stdout").write(document)
        return
    try:
        output.write_bytes(document)
    except OSError as error:
        fail(ConfigError(f"{output} cannot be written ({error.strerror}): name another file"))


def _fact_rows(image: Mapping[str, Any]) -> Sequence[tuple[str, object]]:
    """Return what to print of what is stated about an image."""
    rows: list[tuple[str, object]] = []
    if (provenance := image["provenance"]) is not None:
        stated = f"{provenance['builder']} from {provenance['source'] or 'a source that is not named'}"
        rows.append(("provenance", f"{stated} (stated, not verified)"))
    if (base := image["base_image"]) is not None:
        rows.append(("base image", " ".join(filter(None, (base["name"], base["digest"])))))
    rows += [("sbom", f"{each['format']}, {readable_bytes(each['size'])}") for each in image["sboms"]]
    return rows
