"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="CRISPER_DATA_DIR",
        help="A local server's data folder: its key is used where CRISPER_API_KEY is not set.",
    ),
]
DATA_DIR = Path("crisper-data")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OrganizationOption = Annotated[
    str, typer.Option("--organization", "-o", envvar="CRISPER_ORGANIZATION", help="The customer.")
]
ProjectOption = Annotated[
    str, typer.Option("--project", "-p", envvar="CRISPER_PROJECT", help="A project of the customer.")
]
DEFAULT = "default"

RootOption = Annotated[
    Path,
    typer.Option("--root", help="Root of the file system that /etc is of, as of an image being prepared."),
]
ROOT = Path("/")
