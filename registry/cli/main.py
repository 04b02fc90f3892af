"""The `crisper` command."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from auth.errors import AuthError
from registry.cli import group_life, maintenance
from registry.cli.configuration import CONFIGURED, ClientConfiguration
from registry.cli.edges import edge_app
from registry.cli.enrol import enroll, renew
from registry.cli.events import event_app
from registry.cli.examples import EPILOG, attach_examples
from registry.cli.groups import group_app
from registry.cli.images import image_app
from registry.cli.instances import instance_app, reallocate
from registry.cli.instances import list_ as list_instances
from registry.cli.keys import keys_app
from registry.cli.nodes import node_app
from registry.cli.organizations import organization_app
from registry.cli.output import fail, misused, say
from registry.cli.platforms import group_platforms
from registry.cli.policies import policy_app
from registry.cli.proxy import proxy
from registry.cli.quotas import quota_app
from registry.cli.tokens import token_app
from registry.cli.webhooks import webhook_app
from registry.environment import read_settings
from registry.errors import RegistryError
from storage.errors import StorageError

app = typer.Typer(
    name="crisper",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A private, encrypted registry whose pull tokens work once, for one image, on one node.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(image_app, name="image")
app.add_typer(group_app, name="group")
group_life.register(group_app)
group_app.command("platforms")(group_platforms)
app.add_typer(instance_app, name="instance")
group_app.command("instances", hidden=True)(list_instances)
group_app.command("reallocate", hidden=True, help="The same as `crisper instance reallocate`.")(reallocate)
app.add_typer(organization_app, name="organization")
app.add_typer(quota_app, name="quota")
app.add_typer(policy_app, name="policy")
app.add_typer(webhook_app, name="webhook")
app.add_typer(node_app, name="node")
node_app.command("enroll")(enroll)
node_app.command("renew")(renew)
node_app.command("proxy")(proxy)
app.add_typer(edge_app, name="edge")
app.add_typer(token_app, name="token")
app.add_typer(keys_app, name="keys")
app.add_typer(event_app, name="event")
maintenance.register(app)
image_app.command("rekey")(maintenance.rekey)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"crisper {version('crisper-registry')}")
        raise typer.Exit


@app.callback()
def configured(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="CRISPER_CONFIG",
            help="Configuration file of the client commands (TOML).",
            show_default="~/.config/crisper/config.toml",
        ),
    ] = None,
    show_version: Annotated[  # noqa: ARG001 (its callback prints and exits)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Load the configuration file, which sets defaults for all client commands."""
    try:
        file = ClientConfiguration.load(config)
    except RegistryError as error:
        fail(error)
    CONFIGURED.set(file)
    context.default_map = file.defaults(context.command)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 chooses a free one.", show_default="5000")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for all of the server's data.", show_default="./crisper-data")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of server processes.", show_default="1")] = None,
    roles: Annotated[
        str | None, typer.Option(help="Comma-separated list of pull, token, api, import.", show_default="all")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="URL at which nodes reach the server, https://HOST[:PORT].")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="TLS certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the TLS certificate (PEM).")] = None,
    unix_socket: Annotated[Path | None, typer.Option(help="Unix socket for a proxy on this machine.")] = None,
    insecure_registry: Annotated[
        list[str] | None,
        typer.Option(help="Upstream HOST[:PORT] that may be reached over plain HTTP. Repeatable."),
    ] = None,
) -> None:
    """Run the server. The first start creates keys, catalog and ledger.

    Each option can also be set as CRISPER_<NAME> in the environment; options take precedence.
    """
    from registry.server.serve import serve as run_server  # noqa: PLC0415 (client commands start without it)

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "workers": workers,
        "roles": roles,
        "public_url": public_url,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "unix_socket": unix_socket,
        "insecure_registries": tuple(insecure_registry) if insecure_registry else None,
    }
    try:
        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
        run_server(settings)
    except ValidationError as error:
        misused(error)
    except (AuthError, RegistryError, StorageError) as error:
        fail(error)
    except OSError as error:
        fail(RegistryError(f"the server cannot start: {error.strerror or error}"))


attach_examples(app)


def main() -> None:
    """Run the command line."""
    app()
