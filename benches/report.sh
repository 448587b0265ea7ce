#!/usr/bin/env bash
# Builds Salver for release and measures what docs/performance.md reports.
# Usage: benches/report.sh [--quick] [--list] [ROW...]
# SALVER_BIN names a binary to measure instead.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${SALVER_BIN:-}" ] || cargo build --release
exec python3 benches/report.py "$@"
