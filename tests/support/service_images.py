"""Images of PostgreSQL, Valkey, nginx and an S3 server for deploy/compose.yaml.

They stand in for the images that the compose file names, with the same names, users and folders, but with the
packages of Debian 13. All are one root file system with different commands.
"""

import shutil
from pathlib import Path

from tests.support.built_programs import go_program
from tests.support.container_image import Engine
from tests.support.debian import debian
from tests.support.processes import run

_PACKAGES = "valkey-server,valkey-sentinel,valkey-tools,postgresql-17,nginx-light"
_SERVICE_ID = "999"  # the user that the compose file runs Valkey and PostgreSQL as
_POSTGRES = """\
#!/bin/sh
# Creates the cluster and its database once, and runs the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust
    rm /tmp/password
    pg_ctl --wait --options="-c listen_addresses=" start
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait stop
    printf 'host all all all scram-sha-256\\n' >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*'
"""
_NGINX = """\
user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log off;
    client_body_temp_path /var/cache/nginx/body;
    proxy_temp_path /var/cache/nginx/proxy;
    fastcgi_temp_path /var/cache/nginx/fastcgi;
    uwsgi_temp_path /var/cache/nginx/uwsgi;
    scgi_temp_path /var/cache/nginx/scgi;
    include /etc/nginx/conf.d/*.conf;
}
"""
_OWNED = f"install --directory --owner={_SERVICE_ID} --group={_SERVICE_ID} --mode=0700"
_IMAGES = {
    "valkey/valkey:8.1-bookworm": (f"{_OWNED} /data", ['CMD ["valkey-server"]']),
    "postgres:17-bookworm": (
        f"{_OWNED} /var/lib/postgresql/data",
        [
            'CMD ["/usr/local/bin/serve-postgres"]',
            "ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin",
            "STOPSIGNAL SIGINT",
        ],
    ),
    "nginx:1.28-bookworm": ("true", ['CMD ["nginx", "-g", "daemon off;"]', "STOPSIGNAL SIGQUIT"]),
    "versity/versitygw:v1.8.0": ("true", ['CMD ["versitygw"]']),
}
"""By name: what creates the folders of its volumes, and the settings of its containers."""


def make_service_images(engine: Engine) -> None:
    """Give the engine all images of deploy/compose.yaml but the server's own."""
    archive = debian("debian-13-services", "trixie", _PACKAGES, _prepare)
    path = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    engine("import", "--change", path, str(archive), "services:13")
    for name, (command, changes) in _IMAGES.items():
        options = [word for change in changes for word in ("--change", change)]
        engine("run", "--name=made", "--network=none", "services:13", "sh", "-c", command)
        engine("commit", *options, "made", name)
        engine("rm", "made")


def _prepare(root: Path) -> None:
    for kind in ("usermod --uid", "groupmod --gid"):
        program, option = kind.split()
        run([program, "--root", str(root), option, _SERVICE_ID, "postgres"]).check()
    script = root / "usr/local/bin/serve-postgres"
    script.write_text(_POSTGRES)
    script.chmod(0o755)
    (root / "etc/nginx/nginx.conf").write_text(_NGINX)
    shutil.copy(go_program("versitygw"), root / "usr/local/bin/versitygw")
    for surplus in ("usr/share/doc", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / surplus, ignore_errors=True)
