#!/usr/bin/env bash
# Runs the tests of what scheduling, life cycle and cache promise at their full size, on an optimised
# build, and shows their figures, which docs/performance.md explains. All take 40 minutes, 20 of them
# with Redis away. SALVER_BIN names a binary for those tests that start one.
# Usage: benches/promises.sh [--quick] [P1|P2|P4|P5|P22|P23...]
set -euo pipefail
cd "$(dirname "$0")/.."

# Shows the figures of the tests that a command runs; fails where it fails.
figures() {
  local log
  log=$(mktemp)
  if ! "$@" > "$log" 2>&1; then
    cat "$log"
    rm -f "$log"
    exit 1
  fi
  grep -hoE '\bP[0-9]+[:,] .*' "$log" || { echo "no figure in what '$*' prints" >&2; exit 1; }
  rm -f "$log"
}

runtime() {
  cargo test --release -p salver-runtime "$@" -- --nocapture
}

if [ "${1:-}" = --quick ]; then
  shift
else
  export SALVER_SWAPS=1000 SALVER_SWAP_ANSWERS=40 SALVER_CHANGES=1024 SALVER_OVERLOAD_SECONDS=300
  export SALVER_REQUESTS=3000000 SALVER_OUTAGE_SECONDS=600
fi
[ $# -gt 0 ] || set -- P1 P2 P4 P5 P22 P23
for name in "$@"; do
  case $name in
    P1) figures runtime --test it swapping_versions ;;
    P2)
      figures runtime --test it racing_loads
      [ -n "${SALVER_BIN:-}" ] || cargo build --release -p salver
      SALVER_BIN="${SALVER_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/release/salver}" \
        figures cargo xtask test --python-only -- -k repository_race -s
      ;;
    P4) figures runtime --lib overload_degrades ;;
    P5 | P6) figures runtime --lib nothing_is_lost_or_crossed ;;
    P22) figures cargo test --release -p salver --test it redis_dies -- --nocapture ;;
    P23) figures runtime --test it a_thousand ;;
    *) echo "$name has no test here: P1, P2, P4, P5, P22 and P23 have" >&2; exit 2 ;;
  esac
done
