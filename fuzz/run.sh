#!/usr/bin/env bash
# Runs every target (or those named) on its seeds and on the corpus, then goes on from them for FUZZ_SECONDS each (default 5).
# Fails when an input makes one panic, end for want of memory, or take longer than 10 seconds; the input is named then.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${FUZZ_SECONDS:-5}"
# KiB of address space: what is only reserved counts too. A target needs a tenth of it.
memory=1048576
integration/packages.sh c++=g++
work="${CARGO_TARGET_DIR:-target}/fuzz"
mkdir -p "$work"
work="$(cd "$work" && pwd)"

RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/rustc.sh" "${CARGO:-cargo}" build --package kuroshio-fuzz --features libfuzzer --bin fuzz
binary="${CARGO_TARGET_DIR:-target}/debug/fuzz"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^ *name: "\(.*\)",$/\1/p' fuzz/src/lib.rs)

for target in "${targets[@]}"; do
  seeds="$work/$target/seeds" found="$work/$target/found"
  rm -rf "$seeds"
  mkdir -p "$seeds" "$found" "$work/$target/corpus" "fuzz/corpus/$target"
  log="$work/$target/log"
  (
    ulimit -v "$memory"
    ulimit -c 0
    export KUROSHIO_FUZZ="$target" KUROSHIO_FUZZ_SEEDS="$seeds"
    options=(-timeout=10 -rss_limit_mb=512 -artifact_prefix="$found/" -print_final_stats=1 -verbosity=1)
    # Whole, however large they are.
    : >"$work/$target/empty"
    "$binary" "${options[@]}" "$work/$target/empty"
    unset KUROSHIO_FUZZ_SEEDS
    find "$seeds" "fuzz/corpus/$target" -type f -print0 | sort -z | xargs -0 "$binary" "${options[@]}"
    # The seed makes a run of the same length begin alike; where it gets to depends on the machine.
    exec "$binary" "${options[@]}" -seed=1 -max_len=8192 -max_total_time="$seconds" \
      "$work/$target/corpus" "$seeds" "fuzz/corpus/$target"
  ) >"$log" 2>&1 </dev/null || {
    tail -n 60 "$log" >&2
    echo "fuzz: $target failed; its input is the last one named above, or in $found. All of it: $log" >&2
    exit 1
  }
  stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
  echo "fuzz: $target: $(stat number_of_executed_units) inputs, $(stat average_exec_per_sec)/s, $(stat new_units_added) new, peak $(stat peak_rss_mb) MiB"
done
