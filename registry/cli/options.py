"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="CRISPER_DATA_DIR",
        help="Data folder of a local server. Its operator key is used if no other key is set.",
    ),
]
DATA_DIR = Path("crisper-data")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show whole digests, and do not fold lines.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
OrganizationName = Annotated[
    str, typer.Option("--organization", "-o", envvar="CRISPER_ORGANIZATION", help="Name of the organization.")
]
ProjectName = Annotated[
    str, typer.Option("--project", "-p", envvar="CRISPER_PROJECT", help="Project of the organization.")
]
DEFAULT = "default"

RootOption = Annotated[
    Path,
    typer.Option("--root", help="Root of the file system to configure, for example of a mounted disk image."),
]
ROOT = Path("/")

NodeIdOption = Annotated[
    str | None,
    typer.Option(
        envvar="CRISPER_NODE_ID", help="Id of this node.", show_default="as enrolled on this machine"
    ),
]
NodeSecretOption = Annotated[
    str | None,
    typer.Option(
        envvar="CRISPER_NODE_SECRET",
        help="Node secret. Prefer the environment variable. A node with a certificate needs none.",
        show_default="the certificate from crisper node enroll",
    ),
]

EdgeOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Edge cache to fetch encrypted layers from first, https://HOST[:PORT].",
        show_default="the one that the registry names",
    ),
]
