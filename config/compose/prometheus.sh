#!/usr/bin/env bash
# Makes the image kuroshio-prometheus from Debian's package on this machine, for compose.yaml where no registry can be reached:
# PROMETHEUS_IMAGE=kuroshio-prometheus docker compose up
set -euo pipefail
cd "$(dirname "$0")/../.."

integration/packages.sh prometheus=prometheus
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/tmp" "$root/data"
binary=$(command -v prometheus)
for file in "$binary" $(ldd "$binary" | grep -o '/[^ ]*'); do
  install -D "$file" "$root$file"
done
tar -C "$root" -c . | docker import --change "ENTRYPOINT [\"$binary\"]" --change 'WORKDIR /data' - kuroshio-prometheus
