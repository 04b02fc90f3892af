"""Every registry family that customers use, on one machine, under the names that it has on the internet.

Behind one nginx with a CA of its own: Debian's docker-registry (Basic; tokens; tokens and redirects), all
three on the same files, moto for Amazon's API, and realms. An outbound proxy leads every name there.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.background import Background
from tests.support.certificates import SERVER, TestCa
from tests.support.connect_proxy import ConnectProxy, connect_proxy
from tests.support.distribution import Image, TokenServer, make_image, push, serve
from tests.support.moto_server import ACCOUNT, PASSWORD, REGION, AccessKey, moto_ecr
from tests.support.processes import Process, free_port, listening, run

ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
ECR_API = f"api.ecr.{REGION}.amazonaws.com"
CDN = "production.cloudfront.docker.com"
#: Registries that want a token, each with the realm that it names.
REALMS: Final = {
    "registry-1.docker.io": "https://auth.docker.io/token",
    "ghcr.io": "https://ghcr.io/token",
    "acme.azurecr.io": "https://acme.azurecr.io/oauth2/token",
    "us-docker.pkg.dev": "https://us-docker.pkg.dev/v2/token",
    "gcr.io": "https://gcr.io/v2/token",
    "quay.io": "https://quay.io/v2/auth",
    "registry.gitlab.com": "https://gitlab.com/jwt/auth",
    "public.ecr.aws": "https://public.ecr.aws/token/",
    "harbor.example.com": "https://harbor.example.com/service/token",
    "registry.example.com": "https://tokens.example.net/token",
    "stray.example.com": "https://tokens.example.net/token",
}
BASIC: Final = (ECR, "selfhosted.example.com", "throttled.example.com")
REPOSITORY: Final = "library/app"
PROXY_PASSWORD: Final = "outbound-canary-77-of-the-operator"


class RealmServer:
    """The realms of all families, told apart by host, each with its quirk."""

    def __init__(self, tokens: TokenServer) -> None:
        self.tokens = tokens
        self.admitted: dict[str, set[str]] = {}  # realm's host to the user:password pairs that it knows
        self.open = {"ghcr.io", "public.ecr.aws"}
        self.entra_token = ""
        self.refresh_token = "refresh-token-of-acme"
        self.seen: list[tuple[str, str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        host, shown = request.host, request.headers.get("Authorization")
        self.seen.append((host, request.method, request.path))
        if request.path == "/oauth2/exchange" and request.method == "POST":
            return self._exchange(parse_qs((await request.read()).decode()))
        if request.method != "GET":
            return web.Response(status=405)
        if shown is None and host not in self.open:
            return web.json_response({}, status=401)
        if shown is not None and shown not in {_basic(pair) for pair in self.admitted.get(host, ())}:
            return web.json_response(
                {"errors": [{"code": "DENIED"}]}, status=403 if host == "ghcr.io" else 401
            )
        _, repository, actions = request.query["scope"].split(":")
        token = self.tokens.token(repository, actions.split(","))
        name = "access_token" if host.endswith(".azurecr.io") else "token"
        return web.json_response({name: token, "expires_in": 300})

    def _exchange(self, form: dict[str, list[str]]) -> web.Response:
        wanted = {
            "grant_type": ["access_token"],
            "service": ["acme.azurecr.io"],
            "tenant": ["tenant-of-acme"],
            "access_token": [self.entra_token],
        }
        if form != wanted:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        return web.json_response({"refresh_token": self.refresh_token})


@dataclass
class Farm:
    """Where everything is.

    Attributes:
        image: What all registries hold as `library/app:1`.
        environment: What makes a server find and trust the names here.
        private: A registry at 127.0.0.1 whose CA only its tests trust, as `host:port`.
    """

    image: Image
    realms: RealmServer
    proxy: ConnectProxy
    key: AccessKey
    environment: dict[str, str]
    private: str
    cdn_log: Path
    log: Path


@contextmanager
def provider_farm(folder: Path, users: dict[str, str]) -> Iterator[Farm]:
    """Run it all.

    Args:
        folder: Readable for everybody.
        users: Of the registries with Basic; `AWS` is added.
    """
    with ExitStack() as stack:
        background = stack.enter_context(Background())
        moto_port, key = stack.enter_context(moto_ecr(folder))
        tokens = TokenServer(folder, "", "")
        tokens.realm = "https://realm.invalid/token"
        realms = RealmServer(tokens)
        ports = {"moto": moto_port, "realms": _serve_realms(stack, background, realms)}
        auth = {
            "basic": _passwords(folder, {**users, "AWS": PASSWORD}),
            "token": tokens.auth,
            "redirect": tokens.auth,
        }
        for name, section in auth.items():
            ports[name] = stack.enter_context(_registry(folder, name, section))
        image = make_image([b"layer one" * 900, b"layer two" * 1900])
        bearer = {"Authorization": f"Bearer {tokens.token(REPOSITORY, ['pull', 'push'])}"}
        asyncio.run(push(f"127.0.0.1:{ports['token']}", REPOSITORY, "1", image, bearer))
        ports |= {"tls": free_port(), "private": free_port()}
        ca, own_ca = TestCa.create(folder / "ca"), TestCa.create(folder / "own-ca")
        stack.enter_context(_nginx(folder, ports, ca, own_ca))
        proxy = background.run(_entered(stack, background, ports["tls"]))
        private = f"127.0.0.1:{ports['private']}"
        environment = {
            "CRISPER_EGRESS_PROXY": proxy.url,
            "CRISPER_EGRESS_PROXY_RESOLVES": "true",
            "CRISPER_EGRESS_ALLOW": private,
            "CRISPER_REGISTRY_CAS": f"{private}={own_ca.path}",
            "CRISPER_REGISTRY_REALMS": "registry.example.com=tokens.example.net",
            "SSL_CERT_FILE": str(ca.path),
        }
        yield Farm(image, realms, proxy, key, environment, private, folder / "cdn.log", folder / "nginx.log")


async def _entered(stack: ExitStack, background: Background, port: int) -> ConnectProxy:
    context = connect_proxy(lambda _: port, f"operator:{PROXY_PASSWORD}")
    proxy = await context.__aenter__()
    stack.callback(lambda: background.run(_left(context)))
    return proxy


async def _left(context: object) -> None:
    await context.__aexit__(None, None, None)  # type: ignore[attr-defined]


def _serve_realms(stack: ExitStack, background: Background, realms: RealmServer) -> int:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", realms.handle)
    context = serve(app)
    host = background.run(context.__aenter__())
    stack.callback(lambda: background.run(_left(context)))
    return int(host.rpartition(":")[2])


def _passwords(folder: Path, users: dict[str, str]) -> dict[str, object]:
    path = folder / "htpasswd"
    path.touch()
    for username, password in users.items():
        run(["htpasswd", "-Bb", "-C", "4", str(path), username, password]).check()
    return {"htpasswd": {"realm": "upstream", "path": str(path)}}


@contextmanager
def _registry(folder: Path, name: str, auth: dict[str, object]) -> Iterator[int]:
    port = free_port()
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "shared"},
        "auth": auth,
    }
    if name == "redirect":
        config["middleware"] = {"storage": [{"name": "redirect", "options": {"baseurl": f"https://{CDN}"}}]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    argv = ["docker-registry", "serve", str(path)]
    with Process(argv, folder / f"{name}.log", ready=lambda: listening(port)):
        yield port


def _places(folder: Path, to: dict[str, str]) -> dict[str, list[str]]:
    """Return what each host serves, in nginx's words; `to` has the way to each server."""
    places = {host: [f"location / {{ {to['basic']} }}"] for host in BASIC}
    places["throttled.example.com"] = [f"location / {{ limit_req zone=few burst=1 nodelay; {to['basic']} }}"]
    places[ECR_API] = [f"location / {{ {to['moto']} }}"]
    cdn = f"access_log {folder}/cdn.log cdn; root {folder}/data;"
    places[CDN] = [cdn, "if ($http_authorization) { return 400; }"]
    for host, realm in REALMS.items():
        backend = to["redirect" if host == "registry-1.docker.io" else "token"]
        challenge = f"set $realm {realm}; add_header WWW-Authenticate $challenge always;"
        registry = f"location / {{ proxy_hide_header WWW-Authenticate; {challenge} {backend} }}"
        places.setdefault(host, []).append(registry)
        _, _, realm_host, path = realm.split("/", 3)
        tokens = f"location /{path} {{ {to['realms']} }}"
        if tokens not in places.setdefault(realm_host, []):
            places[realm_host].append(tokens)
    places["acme.azurecr.io"].append(f"location /oauth2/exchange {{ {to['realms']} }}")
    return places


@contextmanager
def _nginx(folder: Path, ports: dict[str, int], ca: TestCa, own_ca: TestCa) -> Iterator[None]:
    to = {name: f"proxy_pass http://127.0.0.1:{port};" for name, port in ports.items()}
    places = _places(folder, to)
    tls = ca.issue("public", hosts=sorted(places), purposes=SERVER)
    own = own_ca.issue("private", hosts=["127.0.0.1"], purposes=SERVER)
    sites = [
        f"server {{ listen 127.0.0.1:{ports['tls']} ssl; server_name {host}; {' '.join(served)} }}"
        for host, served in places.items()
    ]
    sites.append(
        f"server {{ listen 127.0.0.1:{ports['private']} ssl; ssl_certificate {own.certificate};"
        f" ssl_certificate_key {own.key}; location / {{ {to['basic']} }} }}"
    )
    head = _HEAD.format(folder=folder, certificate=tls.certificate, key=tls.key)
    config = folder / "nginx.conf"
    config.write_text("\n".join([head, *sites, "}", ""]))
    argv = ["nginx", "-c", str(config), "-e", str(folder / "nginx.log"), "-g", "daemon off;"]
    with Process(argv, folder / "nginx.log", ready=lambda: listening(ports["tls"])):
        yield


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


_HEAD: Final = """
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{}}
http {{
access_log off;
log_format cdn '$request_method $uri "$http_authorization" $status';
client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
large_client_header_buffers 4 32k;
server_names_hash_bucket_size 128;
ssl_certificate {certificate}; ssl_certificate_key {key};
proxy_set_header Host $host;
limit_req_zone $host zone=few:1m rate=4r/s;
limit_req_status 429;
map $upstream_http_www_authenticate $challenge {{
    default "";
    ~^Bearer.realm="[^"]*"(?<rest>.*)$ 'Bearer realm="$realm"$rest';
}}
"""
