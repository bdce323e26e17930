#!/usr/bin/env bash
# Lays out in ROOT, a new folder, the files of the image: BINARY without its symbols, the libraries that it names, from the packages of
# this system's own Debian or Ubuntu release (the one that it was linked on), and the roots of TLS. No shell, no package manager.
# The same files, byte for byte and with the times of SOURCE_DATE_EPOCH, for the same binary and the same versions of the packages.
# Usage: root.sh BINARY ROOT
set -euo pipefail
umask 022
binary="$1" root="$2"
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What the distribution has newest: not older than what is installed here, which the binary was linked with.
debs() {
  (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$@")
}
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
debs libc6 libgcc-s1 ca-certificates 2>/dev/null || { "${as_root[@]}" apt-get update -qq >&2; debs libc6 libgcc-s1 ca-certificates; }
# libgcc's licence lies in the package of its compiler's base.
debs "$(dpkg-deb --field "$work"/libgcc-s1_*.deb Depends | grep -o 'gcc-[0-9]*-base')"
for deb in "$work"/*.deb; do
  dpkg-deb --extract "$deb" "$work/files"
done

rm -rf "$root"
install -D -m 755 "$binary" "$root/usr/bin/kuroshio"
strip --strip-all "$root/usr/bin/kuroshio"

# Each library where this system's linker found it, which is where the same linker looks in the image.
while read -r path; do
  found="$(find "$work/files" -name "$(basename "$path")" -type f,l | sort | head -n 1)"
  [ -n "$found" ] || { echo "root.sh: $binary needs $path, which is in none of the packages of the image" >&2; exit 1; }
  install -D -m 755 "$(realpath "$found")" "$root$path"
done < <(ldd "$binary" | grep -o '/[^ ]*')

install -d "$root/etc/ssl/certs"
find "$work/files/usr/share/ca-certificates/mozilla" -name '*.crt' -print0 | LC_ALL=C sort -z |
  xargs -0 sed -s '$a\' >"$root/etc/ssl/certs/ca-certificates.crt"
echo 'kuroshio:x:65532:65532::/:/' >"$root/etc/passwd"
echo 'kuroshio:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

# Who looks for known vulnerabilities finds the packages here; their licences want to be handed on.
install -D -m 644 "$here/../../LICENSE" "$root/usr/share/doc/kuroshio/copyright"
install -d "$root/var/lib/dpkg/status.d"
for deb in "$work"/*.deb; do
  package="$(dpkg-deb --field "$deb" Package)"
  dpkg-deb --field "$deb" >"$root/var/lib/dpkg/status.d/$package"
  if [ -f "$work/files/usr/share/doc/$package/copyright" ]; then
    install -D -m 644 "$(realpath "$work/files/usr/share/doc/$package/copyright")" "$root/usr/share/doc/$package/copyright"
  fi
done
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
