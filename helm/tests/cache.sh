# To be sourced: what tests need and this machine does not have is fetched once.

# fetched FUNCTION VERSION: a folder that FUNCTION has filled, now or before.
fetched() {
  local name=${XDG_CACHE_HOME:-$HOME/.cache}/kuroshio-helm/$1-${2//[^a-z0-9.]/-} new
  if [[ ! -d $name ]]; then
    mkdir -p "$(dirname "$name")"
    new=$(mktemp -d "$name.XXXXXX")
    (cd "$new" && "$1" "$2") >&2 || { rm -rf "$new"; return 1; }
    mv -T "$new" "$name" || { rm -rf "$new"; [[ -d $name ]]; }
  fi
  echo "$name"
}
