"""Amazon's ECR API as moto serves it, with its checks of SigV4 signatures and of policies turned on."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session

from tests.support.processes import Process, free_port, listening

MOTO = Path(sys.executable).with_name("moto_server")
ACCOUNT, REGION = "123456789012", "us-east-1"
PASSWORD = f"{ACCOUNT}-auth-token"  # what its GetAuthorizationToken gives
_UNCHECKED = 3  # requests that make a user and a key, before checks begin


@dataclass(frozen=True)
class AccessKey:
    key_id: str
    secret: str = field(repr=False)


@contextmanager
def moto_ecr(folder: Path) -> Iterator[tuple[int, AccessKey]]:
    """Run it; yield its port and a key whose user may do nothing but ask for a token."""
    port = free_port()
    argv = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    env = {"INITIAL_NO_AUTH_ACTION_COUNT": str(_UNCHECKED)}
    with Process(argv, folder / "moto.log", env=env, ready=lambda: listening(port)):
        yield port, _make_key(port)


def _make_key(port: int) -> AccessKey:
    iam = botocore.session.get_session().create_client(
        "iam",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    iam.create_user(UserName="puller")
    allowed = {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="puller", PolicyName="pull", PolicyDocument=document)
    made = iam.create_access_key(UserName="puller")["AccessKey"]
    return AccessKey(made["AccessKeyId"], made["SecretAccessKey"])
