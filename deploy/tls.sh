#!/bin/sh
# Makes the certificates of deploy/compose.yaml that no public authority issues: of the servers, for the proxy, and
# of the proxy, for the servers; and a public one for trying it out, where FOLDER has no registry.crt yet.
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
# nginx asks for this name, whatever the address of the server behind it is (proxy_ssl_name).
issue servers server serverAuth DNS:registry.example.com
issue proxies proxy clientAuth DNS:proxy
if [ ! -e registry.crt ]; then
    issue servers registry serverAuth "DNS:$hostname"
    echo "registry.crt is signed by servers-ca.crt: good for trying it out, not for nodes" >&2
fi
rm -f servers-ca.srl proxies-ca.srl
chmod 0644 ./*.crt
# The servers' user reads it; who is not root gives it to them otherwise.
chown 10001:10001 server.key 2>/dev/null || echo "as root: chown 10001:10001 $folder/server.key" >&2
