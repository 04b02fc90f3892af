#!/bin/sh
# Adds to dist/ the chart, the image if Docker runs here, and the checksums (`make release`).
#   sh tools/release.sh VERSION [SIGNING_KEY]
# SIGNING_KEY is an ECDSA P-256 key in PEM. The signature has the form that `cosign verify-blob` reads.
set -eu
version=$1 key=${2:-} image=crisper-registry:$1

# The same bytes for the same commit, whoever builds it: `helm package` writes the current time.
tar --create --directory=deploy/helm --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 \
	--numeric-owner --mode=u=rwX,go=rX --format=ustar --file="dist/crisper-$version.tar" crisper
gzip --no-name --best <"dist/crisper-$version.tar" >"dist/crisper-$version.tgz"
rm "dist/crisper-$version.tar"

if docker info >/dev/null 2>&1; then
	# shellcheck disable=SC2086 # BUILD_OPTIONS are words, such as --build-arg PYTHON=python@sha256:...
	docker build --quiet ${BUILD_OPTIONS:-} --file deploy/Dockerfile --tag "$image" . >/dev/null
	docker save --output "dist/crisper-registry-$version-image.tar" "$image"
	gzip --no-name "dist/crisper-registry-$version-image.tar"
	docker run --rm --network none --entrypoint cat "$image" /var/lib/dpkg/status |
		"$BIN/python" -m tools.sbom --dpkg-status - >dist/crisper-image.cdx.json
else
	echo "No image was built: Docker does not run here." >&2
fi

(cd dist && sha256sum -- *) >"dist/.SHA256SUMS"
mv dist/.SHA256SUMS dist/SHA256SUMS
if [ -n "$key" ]; then
	openssl dgst -sha256 -sign "$key" -out dist/.signature dist/SHA256SUMS
	base64 --wrap=0 dist/.signature >dist/SHA256SUMS.sig
	rm dist/.signature
else
	echo "dist/ is not signed: give SIGNING_KEY=FILE to sign a release." >&2
fi
