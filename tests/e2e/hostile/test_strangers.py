"""Attacks by strangers, who have no credential: from one address, with an honest client beside them."""

import base64
import itertools
import json

import pytest

from tests.e2e.hostile.conftest import Site
from tests.integration.server.test_bodies import COSTLY, FORM, JSON, codecs_of_python

pytestmark = pytest.mark.full  # a busy machine distorts latencies

HELD = 300
CODECS = codecs_of_python()


def test_forms_in_every_codec(site: Site) -> None:
    paths = itertools.cycle(("/token", "/sign-in"))

    def post(number: int) -> None:
        kind = f"{FORM}; charset={CODECS[number % len(CODECS)]}"
        site.send("POST", next(paths), COSTLY, Content_Type=kind)

    site.withstands("forms in every codec", lambda: site.flood(post))


def test_large_forms_and_documents(site: Site) -> None:
    password = "a" * 60_000
    form = f"grant_type=password&service=crisper&username=n&password={password}".encode()
    fields = b"&".join(b"f%d=%s" % (n, b"%C3%A9" * 160) for n in range(64))
    nested = b'{"csr":' + b"[" * 60_000
    posts = itertools.cycle(
        [
            ("/token", FORM, form),
            ("/token", FORM, fields),
            ("/sign-in", FORM, b"key=" + b"%41" * 20_000),
            ("/api/v1/nodes/n-1/certificate", JSON, nested),
            ("/api/v1/nodes/n-1/certificate", JSON, json.dumps({"csr": "A" * 60_000}).encode()),
        ]
    )

    def post(_number: int) -> None:
        path, kind, body = next(posts)
        site.send("POST", path, body, Content_Type=kind)

    site.withstands("large forms, nested JSON", lambda: site.flood(post))


def test_slow_bodies(site: Site) -> None:
    start = (
        b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 60000\r\n\r\ngrant_type="
    )
    site.withstands("slow bodies", lambda: site.held(HELD, start, b"x"))


def test_refused_keys(site: Site) -> None:
    exchange = "/token?service=crisper&scope=repository:a/b:pull"

    def ask(number: int) -> None:
        key = f"{number:064x}"
        basic = base64.b64encode(f"node:{key}".encode()).decode()
        match number % 5:
            case 0:
                site.send("GET", "/api/public/organizations/acme/quotas", Salad_Api_Key=key)
            case 1:
                site.send("GET", "/api/v1/nodes", Authorization=f"Bearer {key}")
            case 2:
                site.send("GET", exchange, Authorization=f"Basic {basic}")
            case 3:
                site.send("GET", "/v2/a/b/manifests/latest", Authorization=f"Bearer {key}")
            case _:
                site.send("POST", "/sign-in", f"key={key}".encode(), Content_Type=FORM)

    site.withstands("refused keys", lambda: site.flood(ask))


def test_probes_and_documents(site: Site) -> None:
    paths = itertools.cycle(("/readyz", "/metrics", "/openapi.json", "/docs", "/v2/", "/healthz"))
    site.withstands("probes and documents", lambda: site.flood(lambda _: site.send("GET", next(paths))))


def test_unread_documents(site: Site) -> None:
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    site.withstands("unread documents", lambda: site.held(HELD, asks))
