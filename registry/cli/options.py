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
OrganizationOption = Annotated[str, typer.Option("--organization", "-o", help="The customer.")]
ProjectOption = Annotated[str, typer.Option("--project", "-p", help="A project of the customer.")]
DEFAULT = "default"
