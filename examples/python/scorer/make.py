"""Writes the points table of the scorer: what a training script would put beside the code."""

import json
import sys
from pathlib import Path

POINTS = {"employed": 20, "self-employed": 10, "retired": 15}

(Path(sys.argv[1]) / "points.json").write_text(json.dumps(POINTS))
