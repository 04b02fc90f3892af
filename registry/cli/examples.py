"""Examples for every command, shown in its help text and in the reference."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import typer

EPILOG: Final = (
    "Exit codes: 0 success, 1 error (standard error says why and what to do), 2 wrong usage."
    "\n\n"
    "Shell completion: crisper --install-completion"
)

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "serve": (
            "crisper serve",
            (
                "crisper serve --host 0.0.0.0 --public-url https://registry.example.com "
                "--tls-cert tls.crt --tls-key tls.key"
            ),
        ),
        "init": ("crisper init --data-dir ./keys",),
        "gc": ("crisper gc --dry-run", "crisper gc --grace 0"),
        "scrub": ("crisper scrub --rate 100", "crisper scrub --restart --repair"),
        "doctor": ("crisper doctor", "crisper doctor --json"),
        "backup": ("crisper backup /backup/crisper",),
        "image import": (
            "crisper image import docker.io/library/alpine:3",
            (
                'echo "$PASSWORD" | crisper image import ghcr.io/acme/app:1.2 --name app '
                "--username acme --password-stdin"
            ),
        ),
        "image show": ("crisper image show sha256:4f1c...", "crisper image show sha256:4f1c... --json"),
        "image sbom": ("crisper image sbom sha256:4f1c... > app.spdx.json",),
        "image list": ("crisper image list", "crisper image list --organization acme --json"),
        "group create": ("crisper group create app docker.io/library/alpine:3 --replicas 3",),
        "group follow": ("crisper group follow app",),
        "group list": ("crisper group list", "crisper group list --organization acme --json"),
        "group show": ("crisper group show app",),
        "group update": (
            "crisper group update app --image ghcr.io/acme/app:1.3",
            "crisper group update app --pull --replicas 5",
        ),
        "group rollback": ("crisper group rollback app", "crisper group rollback app --to 2"),
        "group platforms": (
            "crisper group platforms app",
            "crisper group platforms app linux/amd64 linux/arm64 linux/arm/v7",
        ),
        "group start": ("crisper group start app",),
        "group stop": ("crisper group stop app",),
        "group edit": (
            "crisper group edit app --replicas 5 --env LOG_LEVEL=debug",
            "crisper group edit app --command python --command -m --command app --memory 2048",
        ),
        "instance list": (
            "crisper instance list app",
            "crisper instance list app --organization acme --json",
        ),
        "instance restart": ("crisper instance restart app INSTANCE_ID",),
        "instance recreate": ("crisper instance recreate app INSTANCE_ID",),
        "instance reallocate": ("crisper instance reallocate app INSTANCE_ID",),
        "group instances": ("crisper group instances app",),
        "group reallocate": ("crisper group reallocate app INSTANCE_ID",),
        "group delete": ("crisper group delete app",),
        "organization create": ("crisper organization create acme",),
        "organization list": ("crisper organization list",),
        "image rekey": ("crisper image rekey sha256:0123... --organization acme",),
        "organization encryption": (
            "crisper organization encryption acme required",
            "crisper organization encryption acme --default",
        ),
        "organization platforms": (
            "crisper organization platforms acme linux/amd64 linux/arm64",
            "crisper organization platforms acme --default",
        ),
        "organization key create": (
            "crisper organization key create acme --name ci --scope deploy",
            "crisper organization key create acme --name monitoring --scope read",
        ),
        "organization key list": ("crisper organization key list acme",),
        "organization key revoke": ("crisper organization key revoke acme KEY_ID",),
        "policy show": ("crisper policy show acme",),
        "policy set": ("crisper policy set acme policies.json", "crisper policy set acme --none"),
        "policy test": ("crisper policy test ghcr.io/acme/app:1.2 --organization acme",),
        "quota show": ("crisper quota show acme",),
        "quota set": ("crisper quota set acme groups=1000 stored_bytes=none streams=default",),
        "event export": (
            "crisper event export --after 0",
            "crisper event export --organization acme --type token.refused",
        ),
        "webhook create": ("crisper webhook create https://scheduler.example.com/crisper --type 'group.*'",),
        "webhook list": ("crisper webhook list --organization acme",),
        "webhook show": ("crisper webhook show WEBHOOK_ID",),
        "webhook enable": ("crisper webhook enable WEBHOOK_ID",),
        "webhook delete": ("crisper webhook delete WEBHOOK_ID",),
        "node create": (
            "crisper node create pc-7",
            "crisper node create pc-8 --binding certificate --network 203.0.113.0/24",
            "crisper node create pi-9 --platform linux/arm/v7",
        ),
        "node set-key": (
            "crisper node set-key pc-7 node-key.pub",
            "crisper node set-key pc-7 node-key.pub --runtime skopeo",
        ),
        "node offer": ("crisper node offer pc-8",),
        "node rotate-secret": ("crisper node rotate-secret pc-7",),
        "node list": ("crisper node list",),
        "node show": ("crisper node show pc-7 --json",),
        "node delete": ("crisper node delete pc-7",),
        "node enroll": (
            "CRISPER_ENROLMENT_SECRET=... crisper node enroll https://registry.example.com pc-8",
            "crisper node enroll https://registry.example.com pc-8 --ca registry-ca.pem --root /mnt/image",
            (
                "CRISPER_ENROLMENT_SECRET=... crisper node enroll https://registry.example.com pc-8 "
                "--runtime containerd"
            ),
        ),
        "node renew": ("crisper node renew", "crisper node renew --force"),
        "node proxy": (
            "crisper node proxy",
            "crisper node proxy --listen 127.0.0.1:5100 --cache /srv/crisper --cache-size 50",
        ),
        "node pull": (
            (
                "CRISPER_PULL_TOKEN=... CRISPER_NODE_SECRET=... crisper node pull "
                "registry.example.com/acme/default/app:v1 --node-id pc-7 --output ./layout"
            ),
            (
                "CRISPER_PULL_TOKEN=... crisper node pull registry.example.com/acme/default/app:v1 "
                "--output ./layout"
            ),
        ),
        "edge create": (
            "crisper edge create berlin https://edge-berlin.example.net --serves 203.0.113.0/24",
        ),
        "edge list": ("crisper edge list",),
        "edge delete": ("crisper edge delete berlin",),
        "edge prefetch": ("crisper edge prefetch sha256:0123... berlin frankfurt",),
        "token mint": (
            "crisper token mint app --node pc-7",
            "crisper token mint app --node pc-7 --organization acme --ttl 60 --json",
        ),
        "token list": (
            "crisper token list",
            "crisper token list --organization acme --group app --json",
        ),
        "token show": ("crisper token show TOKEN_ID",),
        "token complete": ("crisper token complete TOKEN_ID",),
        "token revoke": ("crisper token revoke TOKEN_ID",),
        "keys status": ("crisper keys status", "crisper keys status --encryption"),
        "keys rotate": (
            "crisper keys rotate --signing",
            "crisper keys rotate --signing --compromised",
            "crisper keys rotate --encryption acme",
        ),
        "keys rewrap": ("crisper keys rewrap",),
        "keys shred": ("crisper keys shred acme",),
    }
)


def attach_examples(app: typer.Typer, prefix: str = "") -> None:
    """Set the examples of all commands of an application, including nested ones, as epilogs."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        if examples := EXAMPLES.get(f"{prefix}{name}"):
            command.epilog = "\n\n".join(("Examples:", *(f"$ {line}" for line in examples)))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            attach_examples(group.typer_instance, f"{prefix}{group.name} ")
