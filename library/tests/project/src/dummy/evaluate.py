"""Measure a run's weights again, on the CPU: `python -m <package>.evaluate [RUN]`, or `make evaluate [RUN=...]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import samebits


@samebits.command
def main() -> None:
    """Print the metrics, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("run", nargs="?", type=Path, help="folder of a run (default: models/main)")
    parser.add_argument("--output", type=Path, metavar="JSON", help="also write the metrics to this file")
    arguments = parser.parse_args()
    metrics = samebits.load(arguments.run).evaluate()
    width = max(map(len, metrics), default=0) + 2
    for name, value in metrics.items():
        print(f"{name:<{width}}{value:.4f}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
