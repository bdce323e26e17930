#!/usr/bin/env bash
# Installs Debian or Ubuntu packages unless the command that each is wanted for is there already.
# Usage: packages.sh COMMAND=PACKAGE...
set -euo pipefail

missing=()
for want in "$@"; do
  command -v "${want%%=*}" >/dev/null || missing+=("${want#*=}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "Needed and missing: ${missing[*]} (Debian's names). Install them with this system's package manager and try again." >&2
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
  sudo=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  sudo="sudo"
else
  echo "Packages are missing and this user may not install them. Have an administrator run: $install" >&2
  exit 1
fi
echo "installing ${missing[*]}" >&2
# Some bring services along, which nobody asked for: they are not started, unless this system has its own policy.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
  $sudo chmod +x "$policy"
  trap '$sudo rm -f "$policy"' EXIT
fi
$sudo apt-get update -qq >&2
# shellcheck disable=SC2086 # words are wanted
DEBIAN_FRONTEND=noninteractive $sudo $install >&2
