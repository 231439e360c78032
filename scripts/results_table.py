"""Print the scores of an evaluation as a Markdown table.

python scripts/results_table.py RUN/evaluation/metrics.json
"""

import json
import math
import sys
from pathlib import Path
from typing import Any


def cell(interval: dict[str, Any]) -> str:
    """Return a mean with its interval as text; empty where the mean is missing."""
    mean, low, high = (interval[name] for name in ("mean", "low", "high"))
    if mean is None or not math.isfinite(mean):
        return ""
    bounded = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{mean:.4g}" + (f" ({low:.4g} to {high:.4g})" if bounded else "")


def table(found: dict[str, Any]) -> str:
    """Return a Markdown table with a row for each score and a column for each method of a metrics.json."""
    methods = list(found["methods"])
    lines = ["| score | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for name, score in found["scores"].items():
        unit = f", {score['unit']}" if score["unit"] else ""
        cells = [cell(score["methods"][method]) if method in score["methods"] else "" for method in methods]
        lines.append(f"| {name}{unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
