"""Predict on the CPU: `python -m <package>.predict FILE [--run models/...]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import samebits

# What a sample is: this import, FILE, answer(), and the option `invert`; the rest is the same for all, `make serve` too
from .data.images import read_images, to_input

if TYPE_CHECKING:
    import torch

FILE = "an image that the bright digit on its dark ground fills, or a CSV file of 64 pixels a row"


def answer(outputs: torch.Tensor) -> dict[str, list[Any]]:
    """Say what the model's outputs, float (N, num_classes), mean: columns with a value for each sample."""
    best = outputs.softmax(dim=1).max(dim=1)
    return {"label": best.indices.tolist(), "probability": best.values.tolist()}


def predict(path: Path, run: Path | None = None, invert: bool = False) -> list[dict[str, Any]]:
    """Predict each sample in a file, by the model of a run (by default models/main)."""
    samples = read_images(path, invert)
    model = samebits.load(run).model()
    import torch  # here, so that the run's settings can pin its arithmetic first

    with torch.inference_mode():
        columns = answer(model(to_input(samples)))
    rows = zip(*columns.values(), strict=True)
    return [{"row": number, **dict(zip(columns, row, strict=True))} for number, row in enumerate(rows, start=1)]


@samebits.command
def main() -> None:
    """Print one line a sample, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("path", type=Path, metavar="FILE", help=FILE)
    parser.add_argument("--run", type=Path, help="folder of a run (default: models/main)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of CSV")
    parser.add_argument("--invert", action="store_true", help="the digits are dark on a bright ground")
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    predictions = predict(**arguments)
    if as_json:
        print(json.dumps(predictions, indent=2))
        return
    print(",".join(predictions[0]))
    for each in predictions:
        print(",".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in each.values()))


if __name__ == "__main__":
    main()
