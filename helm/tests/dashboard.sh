#!/usr/bin/env bash
# Checks the dashboard without Grafana: against the types that Grafana publishes (a misspelt key, a wrong type, an unknown
# unit), for ids used twice and panels that overlap, and every query with promtool. What dashboard.ts needs is downloaded
# once into the cache. Needs npm (with Node.js 18 or newer), and promtool (Debian: prometheus).
#
# helm/tests/dashboard.sh [FILE]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
file=${1:-$here/../kuroshio/dashboards/kuroshio.json}

# Grafana's types, and what compares; a newer version of the first knows newer keys.
packages=(@grafana/grafana-foundation-sdk@0.0.21 typescript@5.9.3)

for tool in node npm promtool; do
  command -v "$tool" >/dev/null && continue
  echo "dashboard.sh: there is no $tool; Debian's packages are nodejs, npm and prometheus" >&2
  exit 1
done

name=$(sha256sum <<<"${packages[*]}" | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kuroshio-dashboard/$name
work=$(mktemp -d)
fetched=
trap 'rm -rf "$work" ${fetched:+"$fetched"}' EXIT
if [[ ! -d $cache ]]; then
  mkdir -p "$(dirname "$cache")"
  fetched=$(mktemp -d "$cache.XXXXXX")
  npm install --prefix "$fetched" --ignore-scripts --no-audit --no-fund --loglevel error "${packages[@]}" >&2
  mv -T "$fetched" "$cache" || [[ -d $cache ]]
fi

# The JSON is a TypeScript expression; it begins on its own first line, so the compiler's line numbers are the file's.
{ printf 'export const dashboard: import("./dashboard").Checked = '; cat "$file"; } >"$work/input.ts"
cp "$here/dashboard.ts" "$work/"
ln -s "$cache/node_modules" "$work/node_modules"
cd "$work"
node node_modules/typescript/bin/tsc --strict --noEmitOnError --skipLibCheck --module nodenext --target es2022 \
  --outDir out dashboard.ts input.ts
node out/dashboard.js >queries.yaml
promtool check rules queries.yaml
