"""Helpers of the benchmarks: an image, and a session to pull it."""

import os

from tests.support import images
from tests.support.crisper import CrisperServer, PullToken
from tests.support.http import basic, request


def single_layer(size_bytes: int) -> images.Image:
    """Build an image with one layer of random bytes."""
    return images.build("bench/blob", [images.Layer.raw(os.urandom(size_bytes))])


def repository_of(token: PullToken) -> str:
    """Return the repository of a token's reference."""
    return token.reference.split("/", 1)[1].split("@")[0].rsplit(":", 1)[0]


def session(server: CrisperServer, reference: str) -> tuple[PullToken, str]:
    """Import an image and open a session for it; return its token and its bearer."""
    operator = server.operator
    organization, node = operator.create_organization(), operator.create_node()
    group = server.customer(organization).import_image(reference)
    token = operator.mint(organization, group, node)
    url = f"{server.url}/token?service=crisper&scope=repository:{repository_of(token)}:pull"
    login = {"Authorization": basic(node.node_id, token.password(node))}
    return token, str(request("GET", url, headers=login).expect(200).json()["token"])
