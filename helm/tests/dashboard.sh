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

# shellcheck source=helm/tests/cache.sh
. "$here/cache.sh"
npm_packages() {
  # shellcheck disable=SC2086 # several
  npm install --prefix . --ignore-scripts --no-audit --no-fund --loglevel error $1
}
cache=$(fetched npm_packages "${packages[*]}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The JSON is a TypeScript expression; it begins on its own first line, so the compiler's line numbers are the file's.
{ printf 'export const dashboard: import("./dashboard").Checked = '; cat "$file"; } >"$work/input.ts"
cp "$here/dashboard.ts" "$work/"
ln -s "$cache/node_modules" "$work/node_modules"
cd "$work"
node node_modules/typescript/bin/tsc --strict --noEmitOnError --skipLibCheck --module nodenext --target es2022 \
  --outDir out dashboard.ts input.ts
node out/dashboard.js >queries.yaml
promtool check rules queries.yaml
