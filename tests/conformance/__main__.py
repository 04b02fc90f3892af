"""`python -m tests.conformance`: fill an upstream, import from it, check, write `docs/conformance.txt`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conformance.images import IMAGES, Stored, attach_referrers, stored
from tests.conformance.report import REPORT, Section, failures, write
from tests.conformance.suite import GENERAL, PER_IMAGE, REPOSITORY, Target, check, fill
from tests.support.crisper import CrisperServer, Node, Organization
from tests.support.upstream import Upstream


def main() -> int:
    """Return 0 when every check passed."""
    with TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        with Upstream.anonymous(folder / "upstream") as upstream:
            fill(upstream.host, folder / "filling")
            attach_referrers(upstream.host)
            # The suite's configs name layers that its images do not have: no machine could run them, and
            # imports that look into layers refuse them. What is checked here is how they are served.
            # One of its manifests has almost 4 MiB.
            env = {"CRISPER_COMPRESS": "false", "CRISPER_MAX_MANIFEST_BYTES": str(4 << 20)}
            registries = [upstream.host]
            with CrisperServer(folder / "crisper", insecure_registries=registries, env=env) as server:
                sections = _check_all(upstream.host, server, folder)
    write(sections)
    wrong = failures(sections)
    said = [f"{sum(len(each.checks) for each in sections)} checks, {len(wrong)} not passed: {REPORT}"]
    said += [f"  {each.name}: {each.status}\n    {each.said}" for each in wrong]
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if wrong else 0


def _check_all(upstream: str, server: CrisperServer, folder: Path) -> list[Section]:
    organization, node = server.operator.create_organization("conformance"), server.operator.create_node()
    sections: list[Section] = []
    for tag in IMAGES:
        group = server.customer(organization).import_image(f"{upstream}/{REPOSITORY}:{tag}")
        target = _target(server, organization, group, node, stored(upstream, tag))
        if not sections:
            sections.append(Section("any repository", check(target, GENERAL, folder / "general")))
        sections.append(Section(f"image {tag}", check(target, PER_IMAGE, folder / tag)))
    return sections


def _target(
    server: CrisperServer, organization: Organization, group: str, node: Node, image: Stored
) -> Target:
    token = server.operator.mint(organization, group, node)
    return Target(
        server.host,
        f"{organization.name}/default/{group}",
        node.node_id,
        token.password(node),
        tags=("latest", "v1"),
        manifests=image.documents,
        blobs=image.blobs,
        referrers=image.documents,
    )


if __name__ == "__main__":
    sys.exit(main())
