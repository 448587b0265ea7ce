#!/usr/bin/env bash
# Builds Salver for release and measures what docs/performance.md reports.
# Usage: benches/report.sh [--quick] [--list] [ROW...]
# SALVER_BIN names a binary to measure instead.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *" --list "* | *" --help "* | *" -h "*) ;; # needs no build
  *) [ -n "${SALVER_BIN:-}" ] || cargo build --release ;;
esac
exec python3 benches/report.py "$@"
