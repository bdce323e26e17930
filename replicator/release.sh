#!/usr/bin/env bash
# Writes target/release-VERSION: an archive with the binary, manual, completions and reference; the SBOM; the chart; SHA256SUMS. Made so that
# the same commit, toolchain and C compiler give the same bytes, wherever the checkout and cargo's folder lie.
#
# replicator/release.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
version=$1
cargo="${CARGO:-cargo}"
target="${CARGO_TARGET_DIR:-target}"
out="$target/release-$version"

# Times are the commit's. Of paths, that of the checkout is written otherwise (--remap-path-prefix); those of cargo's folder and of what is
# built are the same everywhere, because OpenSSL writes them and its compiler's arguments into its library.
build="${BUILD:-/var/tmp/kuroshio-release}"
mkdir -p "$build"
ln -sfn "${CARGO_HOME:-$HOME/.cargo}" "$build/cargo"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
CARGO_HOME="$build/cargo" CARGO_INCREMENTAL=0 RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/kuroshio" \
  "$cargo" build --release --locked --package kuroshio --target-dir "$build/target"
binary="$build/target/release/kuroshio"
triple="$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')"

rm -rf "$out"
name="kuroshio-$version-$triple"
mkdir -p "$out/$name/man/man1" "$out/$name/completions"
install -m 755 "$binary" "$out/$name/kuroshio"
install -m 644 README.md LICENSE CHANGELOG.md config/reference.yaml "$out/$name/"
install -m 644 replicator/man/*.1 "$out/$name/man/man1/"
"$binary" completions bash >"$out/$name/completions/kuroshio.bash"
"$binary" completions zsh >"$out/$name/completions/_kuroshio"
"$binary" completions fish >"$out/$name/completions/kuroshio.fish"
packed() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$@" | gzip -n9; }
(cd "$out" && packed "$name" >"$name.tar.gz" && rm -r "$name")

CARGO="$cargo" replicator/sbom.sh
install -m 644 "$target/kuroshio.cdx.json" "$out/kuroshio-$version.cdx.json"

here=helm/tests
# shellcheck source=helm/tests/tools.sh
. "$here/tools.sh"
# `helm package` writes the time into the archive: it is packed anew with the commit's.
helm package helm/kuroshio --destination "$out" >/dev/null
(
  cd "$out"
  tar -xzmf "kuroshio-$version.tgz"
  packed kuroshio >"kuroshio-$version.tgz"
  rm -r kuroshio
)

(cd "$out" && sha256sum -- * >SHA256SUMS)
cat "$out/SHA256SUMS"
echo "release: $out"
