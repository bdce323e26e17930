#!/usr/bin/env bash
# Packs BINARY, which was built on this machine, into the image TAG, without asking any registry. Says what is in it.
# Usage: build.sh BINARY TAG
set -euo pipefail
cd "$(dirname "$0")/../.."
binary="$1" tag="$2"
integration/packages.sh strip=binutils dpkg-deb=dpkg

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT

# The same for the same commit.
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null || echo 0)"
export SOURCE_DATE_EPOCH
replicator/image/root.sh "$binary" "$context/root"
docker build --quiet --file replicator/image/Dockerfile --target packed --tag "$tag" \
  --build-arg VERSION="$("$binary" --version | cut -d ' ' -f 2)" \
  --build-arg REVISION="$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)" \
  --build-arg CREATED="$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
  "$context" >/dev/null

size="$(docker image inspect --format '{{.Size}}' "$tag")"
packages="$(cd "$context/root/var/lib/dpkg/status.d" && awk '/^Package: /{ name = $2 } /^Version: /{ print name, $2 }' * | paste -sd ,)"
echo "image: $tag, $((size / 1000)) kB, without a registry, from $binary and this system's packages: ${packages//,/, }"
# Debug builds are for tests.
if [ "$size" -ge 40000000 ] && [[ $binary != */debug/* ]]; then
  echo "image: more than 40 MB, which is what we promise" >&2
  exit 1
fi
