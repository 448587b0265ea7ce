#!/usr/bin/env bash
# Iris and digits with nothing but curl.
set -euo pipefail
server="${SALVER_SERVER:-http://127.0.0.1:8080}"

echo "models:"
curl -sSf "$server/models"
echo

echo "a flower, by column name:"
curl -sSf "$server/models/iris/predict" \
  -d '{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'
echo

echo "two flowers from a file with a header line:"
printf '%s\n' sepal_length,sepal_width,petal_length,petal_width 5.1,3.5,1.4,0.2 6.3,3.3,6.0,2.5 |
  curl -sSf "$server/invocations" -H 'Content-Type: text/csv' --data-binary @-
echo

echo "the metrics of what was just asked:"
curl -sSf "$server/metrics" | grep 'ml_inference_total.*iris.*success'
