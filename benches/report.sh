#!/usr/bin/env bash
# Measures what docs/performance.md reports, on this machine, with the release build.
# Usage: benches/report.sh [path to salver]
set -euo pipefail
cd "$(dirname "$0")/.."
salver="${1:-target/release/salver}"
data="$(mktemp -d)"
"$salver" serve examples/demo/iris examples/demo/digits --bench --http 127.0.0.1:18080 --grpc 127.0.0.1:18081 \
  --data "$data" --log-level error >"$data/out" 2>"$data/err" &
server=$!
trap 'kill "$server"; wait "$server"; rm -rf "$data"' EXIT
until "$salver" predict iris --server http://127.0.0.1:18080 --input '[[5.1, 3.5, 1.4, 0.2]]' >/dev/null 2>&1; do :; done

export SALVER_SERVER=http://127.0.0.1:18080
echo "## iris, HTTP JSON, against the constant route"
"$salver" bench --model iris --pairs 11 --duration 2s --warmup 500ms
for model in iris digits; do
  for protocol in http-json http-binary grpc; do
    for connections in 1 16 64; do
      echo "## $model, $protocol, $connections connections"
      "$salver" bench --model "$model" --protocol "$protocol" --connections "$connections" --duration 3s --warmup 500ms
    done
  done
done
echo "## iris, HTTP JSON, at a fixed rate"
"$salver" bench --model iris --rate 10000 --duration 3s --warmup 500ms
echo "## in process, without sockets"
"$salver" bench --in-process examples/demo/iris --duration 3s
"$salver" bench --in-process examples/demo/digits --duration 3s
echo "## start and idle memory"
benches/startup.py "$salver" 15
