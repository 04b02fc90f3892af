"""An organization that imports several platforms of an image, and the clients of its nodes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support import images
from tests.support.clients import Client
from tests.support.crisper import CrisperServer, Customer, Node, Operator, Organization, PullToken
from tests.support.go_clients import PLATFORM, GoClient
from tests.support.images import Image
from tests.support.processes import Result, wait_until
from tests.support.upstream import Upstream

IMAGE = images.four_platforms()
MADE = dict(zip(("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"), IMAGE.children, strict=False))
IMPORTED = ("linux/amd64", "linux/arm64", "linux/arm/v7")
MISSING = "linux/riscv64"


def size_of(image: Image) -> int:
    return sum(map(len, image.blobs.values()))


@dataclass(frozen=True)
class Fleet:
    """An organization that imports three platforms of an image, and wants one that the image has not."""

    operator: Operator
    organization: Organization
    customer: Customer
    group: str
    clients: dict[str, Client]
    folder: Path

    def mint(self, node: Node, variant: str = "original") -> PullToken:
        return self.operator.mint(self.organization, self.group, node, variant=variant)

    def shown(self, token: PullToken) -> dict[str, Any]:
        return dict(self.operator.call("GET", f"/pull-tokens/{token.token_id}").expect(200).json())

    def pull(self, name: str, token: PullToken, node: Node, platform: str | None = None) -> Result:
        arguments = (token.reference, token.username, token.password(node))
        if name == "crane":
            return GoClient(name, self.folder).pull(*arguments, platform or PLATFORM)
        return self.clients[name].pull(*arguments, platform)

    def assert_whole(self, token: PullToken, platform: str) -> None:
        """Assert that the session delivered this platform, and only this one.

        A client may end before the server has recorded the end of its last response.
        """
        image = MADE[platform]
        whole = {"complete": len(image.blobs), "total": len(image.blobs)}
        wait_until(
            lambda: self.shown(token)["session"]["blobs"] == whole,
            timeout_s=10,
            what=f"the session shows {whole}: {self.shown(token)['session']}",
        )
        assert self.shown(token)["session"]["bytes_delivered"] == size_of(image)

    @classmethod
    def create(
        cls, server: CrisperServer, upstream: Upstream, clients: dict[str, Client], folder: Path
    ) -> Self:
        operator = server.operator
        made = operator.create_organization()
        wanted = {"platforms": ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", MISSING]}
        setting = operator.call("PUT", f"/organizations/{made.name}/platforms", wanted).expect(200).json()
        assert setting["effective"] == [*IMPORTED, MISSING]
        upstream.push(IMAGE)
        customer = server.customer(made)
        group = customer.import_image(upstream.reference(IMAGE), **upstream.login)
        return cls(operator, made, customer, group, clients, folder)
