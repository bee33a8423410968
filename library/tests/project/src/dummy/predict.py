"""Label images on the CPU: `python -m <package>.predict IMAGE_OR_CSV [--run models/...]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import samebits

from .data.images import read_images, to_input


def predict(path: Path, run: Path | None = None, invert: bool = False) -> list[dict[str, Any]]:
    """Predict the label of one image file, or of each row of a CSV file.

    Args:
        path: an image that the bright digit on its dark ground fills, of any size; or a CSV file with 64 pixels a row.
        run: folder of a run; by default models/main.
        invert: the digit is dark on a bright ground, as ink on paper.

    Returns:
        For each image its `row`, its `label` and the `probability`.
    """
    images = read_images(path, invert)
    model = samebits.load(run).model()
    import torch  # here, so that the run's settings can pin its arithmetic first

    with torch.inference_mode():
        best = model(to_input(images)).softmax(dim=1).max(dim=1)
    return [
        {"row": row, "label": int(label), "probability": float(probability)}
        for row, (label, probability) in enumerate(zip(best.indices, best.values, strict=True), start=1)
    ]


@samebits.command
def main() -> None:
    """Print one line an image, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("input", type=Path, metavar="IMAGE_OR_CSV", help="an image that the digit fills, or a table")
    parser.add_argument("--run", type=Path, help="folder of a run (default: models/main)")
    parser.add_argument("--invert", action="store_true", help="the digits are dark on a bright ground")
    parser.add_argument("--json", action="store_true", help="print JSON instead of CSV")
    arguments = parser.parse_args()
    predictions = predict(arguments.input, arguments.run, arguments.invert)
    if arguments.json:
        print(json.dumps(predictions, indent=2))
        return
    print("row,label,probability")
    for each in predictions:
        print(f"{each['row']},{each['label']},{each['probability']:.4f}")


if __name__ == "__main__":
    main()
