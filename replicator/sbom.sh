#!/usr/bin/env bash
# Writes target/kuroshio.cdx.json (CycloneDX 1.5): what the binary is made of, crates as Cargo.lock has them, and the C libraries that
# some bring and compile. Fails when a crate that is compiled into it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo}"
out="${CARGO_TARGET_DIR:-target}/kuroshio.cdx.json"

"$cargo" cyclonedx --version >/dev/null 2>&1 || "$cargo" install --locked cargo-cyclonedx
integration/packages.sh jq=jq
mkdir -p "$(dirname "$out")"

# The same for the same sources, and nothing of the machine in it.
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null || date +%s)"
export SOURCE_DATE_EPOCH
name=kuroshio-sbom-$$
trap 'find . -path ./target -prune -o -name "$name.json" -exec rm -f {} +' EXIT
"$cargo" cyclonedx --quiet --manifest-path replicator/Cargo.toml --format json --spec-version 1.5 --override-filename "$name"

# `4.10.0+2.12.1` of rdkafka-sys is the crate, and the librdkafka in it.
jq --arg here "file://$PWD/" '
  { "rdkafka-sys": ["librdkafka", "BSD-2-Clause"], "openssl-src": ["openssl", "Apache-2.0"], "zstd-sys": ["zstd", "BSD-3-Clause"] }
    as $libraries
  | (.. | strings) |= gsub($here; "file:///")
  | .components += [
      .components[]
      | select($libraries[.name] and (.version | contains("+")))
      | (.version | split("+")[1] | ltrimstr("zstd.")) as $version
      | $libraries[.name] as [$library, $license]
      | { type: "library", name: $library, version: $version, "bom-ref": "generic:\($library)@\($version)",
          purl: "pkg:generic/\($library)@\($version)", licenses: [{ license: { id: $license } }],
          description: "compiled into the binary by the crate \(.name)" }
    ]' "replicator/$name.json" >"$out"

listed="$(jq -r '.components[] | "\(.name) \(.version)"' "$out")"
missing=0
while read -r crate version; do
  grep -qxF "$crate ${version#v}" <<<"$listed" || { echo "sbom: $crate $version is missing" >&2; missing=1; }
done < <("$cargo" tree --locked --package kuroshio --edges normal --prefix none --format '{p}' | awk '$1 != "kuroshio" { print $1, $2 }' | sort -u)
for library in librdkafka openssl zstd; do
  grep -q "^$library " <<<"$listed" || { echo "sbom: the C library $library is missing" >&2; missing=1; }
done
[ "$missing" -eq 0 ]
echo "sbom: $out: $(wc -l <<<"$listed") components, $(grep '^librdkafka ' <<<"$listed")"
