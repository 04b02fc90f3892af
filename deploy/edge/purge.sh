#!/bin/sh
# Remove layers from an edge cache, for example after `crisper image rekey`. nginx may run meanwhile.
#
#   purge.sh [-d FOLDER] sha256:0123... ...
#
# The folder is that of `proxy_cache_path`. The key of a slice is in the first lines of its file.
set -eu

folder=/var/cache/nginx/crisper-edge
if [ "${1-}" = -d ]; then
    folder=$2
    shift 2
fi
[ $# -gt 0 ] || { echo "usage: purge.sh [-d FOLDER] DIGEST ..." >&2; exit 2; }
for digest; do
    case $digest in
        sha256:*[!0-9a-f]*) valid=no ;;
        sha256:????????????????????????????????????????????????????????????????) valid=yes ;;
        *) valid=no ;;
    esac
    [ "$valid" = yes ] || { echo "$digest is not a digest: write sha256: and 64 hex digits" >&2; exit 2; }
done

find "$folder" -type f -print0 |
    LC_ALL=C xargs -0 -r awk -v digests="$*" '
        BEGIN { split(digests, wanted, " ") }
        FNR > 20 { nextfile }
        /^KEY: / {
            for (each in wanted)
                if (index($0, "KEY: " wanted[each] " ") == 1) print FILENAME
            nextfile
        }' |
    while IFS= read -r file; do
        rm -f -- "$file"
        echo "$file"
    done |
    awk 'END { print "removed " NR " slices" }'
