#!/bin/sh
# Creates the private certificates for deploy/compose.yaml: the servers' certificate, which the proxy verifies, and
# the proxy's client certificate, which the servers verify. If FOLDER has no registry.crt, also creates a public
# certificate for a trial.
#
#   deploy/tls.sh FOLDER HOSTNAME
set -eu
umask 077
folder=${1:?FOLDER} hostname=${2:?HOSTNAME}
mkdir -p "$folder"
cd "$folder"

authority() { # NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj "/CN=Crisper $1" -keyout "$1-ca.key" -out "$1-ca.crt" 2>/dev/null
}

issue() { # AUTHORITY NAME PURPOSE NAMES
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout "$2.key" -out "$2.csr" 2>/dev/null
    printf 'extendedKeyUsage=%s\nsubjectAltName=%s\nbasicConstraints=critical,CA:FALSE\n' "$3" "$4" >"$2.ext"
    openssl x509 -req -in "$2.csr" -CA "$1-ca.crt" -CAkey "$1-ca.key" -CAcreateserial -days 825 \
        -extfile "$2.ext" -out "$2.crt" 2>/dev/null
    rm "$2.csr" "$2.ext"
}

authority servers
authority proxies
# nginx expects this name from every server, independent of its address (proxy_ssl_name).
issue servers server serverAuth DNS:registry.example.com
issue proxies proxy clientAuth DNS:proxy
if [ ! -e registry.crt ]; then
    issue servers registry serverAuth "DNS:$hostname"
    echo "registry.crt is signed by servers-ca.crt: use it for a trial only, because nodes do not trust it" >&2
fi
rm -f servers-ca.srl proxies-ca.srl
chmod 0644 ./*.crt
# The servers' user must be able to read the key. Only root can change its owner.
chown 10001:10001 server.key 2>/dev/null || echo "as root: chown 10001:10001 $folder/server.key" >&2
