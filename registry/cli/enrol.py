"""`crisper node enroll` and `crisper node renew`, which run on a node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from auth.secret import Secret
from registry.cli.encryption_keys import EncryptionKeys
from registry.cli.identity import NodeIdentity
from registry.cli.key_state import KeyState
from registry.cli.options import ROOT, EdgeOption, JsonOption, RootOption
from registry.cli.output import fail, run, say, show
from registry.cli.platforms import this_platform
from registry.cli.runtimes import configure_runtime
from registry.errors import ConfigError, RegistryError
from registry.model.nodes import Runtime
from registry.oci.platform import Platform


def enroll(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://HOST[:PORT] of the registry.")],
    node_id: Annotated[str, typer.Argument(metavar="NODE_ID")],
    secret: Annotated[
        str,
        typer.Option(
            envvar="CRISPER_ENROLMENT_SECRET",
            prompt="Enrolment secret",
            hide_input=True,
            help="Enrolment secret that `crisper node create` printed. Prefer the environment variable.",
        ),
    ],
    ca: Annotated[Path | None, typer.Option(help="CA of the registry's own certificate (PEM).")] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            help="Platform that this node runs, as linux/arm64. Set it when you configure a disk image.",
            show_default="this machine's",
        ),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="Container runtime that decrypts layers. Without one, this node gets unencrypted layers.",
            show_default="as enrolled before, or none",
        ),
    ] = None,
    edge: EdgeOption = None,
    root: RootOption = ROOT,
    as_json: JsonOption = False,
) -> None:
    """Create this machine's keys, get its certificate, and configure its container clients."""
    try:
        ca_pem = ca.read_bytes() if ca else None
    except OSError as error:
        fail(ConfigError(f"{ca} cannot be read: {error.strerror}"))

    async def work() -> None:
        own = Platform.parse(platform) if platform else this_platform()
        identity = NodeIdentity.of(root.absolute(), url, node_id, str(own) if own else None, edge)
        await identity.enrol(Secret(secret), ca_pem)
        keys = EncryptionKeys(identity)
        state = keys.install(runtime)
        notes = (
            configure_runtime(identity.root, state.runtime, keys.decryption_links()) if state.runtime else []
        )
        try:
            state = await keys.announce()
        except RegistryError as error:
            raise RegistryError(
                f"the machine is enrolled, but its encryption key was not announced: {error}; run "
                "`crisper node renew` to try again"
            ) from None
        _show(identity, state, notes, as_json=as_json)

    run(work())


def renew(
    force: Annotated[
        bool,
        typer.Option("--force", help="Also renew certificates and replace encryption keys that are not due."),
    ] = False,
    root: RootOption = ROOT,
    as_json: JsonOption = False,
) -> None:
    """Renew certificates past half of their lifetime, and replace encryption keys. Run it from a timer."""

    async def work() -> None:
        identities = NodeIdentity.enrolled(root.absolute())
        if not identities:
            raise ConfigError("this machine is not enrolled: run `crisper node enroll URL NODE_ID`")
        failed: list[str] = []
        for identity in identities:
            try:
                renewed_at = await identity.renew() if force or identity.due else None
                state = await EncryptionKeys(identity).renew(renewed_at, force=force)
                _show(identity, state, as_json=as_json)
            except RegistryError as error:
                failed.append(f"{identity.host}: {error}")
        if failed:
            raise RegistryError("; ".join(failed))

    run(work())


def _show(identity: NodeIdentity, keys: KeyState, notes: Sequence[str] = (), *, as_json: bool) -> None:
    if keys.next is not None:
        notes = [*notes, "The registry does not support encryption keys yet: layers are not encrypted."]
    document = {
        "node_id": identity.node_id,
        "registry": identity.url,
        "platform": identity.platform,
        "edge": identity.edge,
        "not_after": identity.certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "directory": str(identity.folder),
        "key_thumbprint": keys.current,
        "runtime": keys.runtime,
        "notes": list(notes),
    }
    rows = [
        ("node", document["node_id"]),
        ("registry", document["registry"]),
        ("platform", document["platform"]),
        ("edge", document["edge"]),
        ("certificate expires", document["not_after"]),
        ("encryption key", keys.current),
        ("runtime", keys.runtime),
        ("files", document["directory"]),
    ]
    show(document, as_json=as_json, rows=rows)
    if not as_json:
        for note in notes:
            say(note)
