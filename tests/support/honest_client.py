"""A client that behaves well: requests at a fixed rate, each over a connection of its own.

Run as a program of its own (`python -m tests.support.honest_client`), so that the threads of an attack do not
delay it. It reads its `Plan` from standard input as JSON, and writes the seconds that each request took.
"""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPSConnection
from itertools import cycle
from typing import Final

RATE_PER_S: Final = 50
SOURCE: Final = "127.0.0.2"  # an address that no attack uses
TIMEOUT_S: Final = 30
THREADS: Final = 32  # requests at the same time: a slow one does not delay the next


@dataclass(frozen=True)
class Ask:
    """One request; `count` of each round of the plan are like it."""

    path: str
    headers: Mapping[str, str]
    count: int = 1
    method: str = "GET"
    body: str | None = None
    statuses: Sequence[int] = (200,)


@dataclass(frozen=True)
class Plan:
    """What to ask for, and for how long.

    Attributes:
        source: The client's own address.
        ca_file: Certificate authority of a server with TLS.
    """

    port: int
    seconds: float
    asks: Sequence[Ask]
    source: str = SOURCE
    ca_file: str | None = None

    def run(self) -> list[float]:
        """Run the client in its own process; return how long each request took, in seconds."""
        argv = [sys.executable, "-m", "tests.support.honest_client"]
        timeout_s = self.seconds + 3 * TIMEOUT_S
        ended = subprocess.run(
            argv,
            input=json.dumps(asdict(self)),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return [float(took) for took in json.loads(ended.stdout)]


def percentile(sample: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the sample do not exceed."""
    ordered = sorted(sample)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def _connect(plan: Plan, trust: ssl.SSLContext | None) -> HTTPConnection:
    source = (plan.source, 0)
    if trust is None:
        return HTTPConnection("127.0.0.1", plan.port, timeout=TIMEOUT_S, source_address=source)
    return HTTPSConnection("127.0.0.1", plan.port, timeout=TIMEOUT_S, source_address=source, context=trust)


def _send(plan: Plan, trust: ssl.SSLContext | None, ask: Ask, due: float) -> float:
    """Send a request; return the seconds since it was due."""
    connection = _connect(plan, trust)
    try:
        connection.request(ask.method, ask.path, body=ask.body, headers=dict(ask.headers))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in ask.statuses:
            raise AssertionError(f"{ask.method} {ask.path}: {answer.status} {body[:300]!r}")
        return time.monotonic() - due
    finally:
        connection.close()


def _main() -> None:
    given = json.load(sys.stdin)
    plan = Plan(**given | {"asks": [Ask(**each) for each in given["asks"]]})
    trust = ssl.create_default_context(cafile=plan.ca_file) if plan.ca_file else None
    asks = [ask for ask in plan.asks for _ in range(ask.count)]
    count = round(plan.seconds * RATE_PER_S)
    with ThreadPoolExecutor(THREADS) as threads:
        began, sent = time.monotonic(), []
        for number, ask in zip(range(count), cycle(asks), strict=False):
            due = began + number / RATE_PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append(threads.submit(_send, plan, trust, ask, due))
        json.dump([each.result() for each in sent], sys.stdout)


if __name__ == "__main__":
    _main()
