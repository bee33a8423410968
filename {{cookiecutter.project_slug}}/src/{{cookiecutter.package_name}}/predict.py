"""Label images on the CPU: `python -m <package>.predict IMAGE_OR_CSV [--run models/...]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .cli import run_with_arguments
from .data.images import read_images, to_input
from .saved import MAIN, load_model, read_config


def predict(path: Path, run: Path, invert: bool = False) -> list[dict[str, Any]]:
    """Predict the label of one image file, or of each row of a CSV file.

    Args:
        path: an image that the bright digit on its dark ground fills, of any size; or a CSV file with 64 pixels a row.
        run: folder that holds config.yaml and model.safetensors.
        invert: the digit is dark on a bright ground, as ink on paper.

    Returns:
        For each image its `row`, its `label` and the `probability`.

    Raises:
        UserError: the file or the run cannot be read.
    """
    images = read_images(path, invert)
    cfg = read_config(run)
    model, run_id = load_model(run, cfg)
    print(f"weights of {run_id}", file=sys.stderr)
    import torch

    with torch.inference_mode():
        probabilities = model(to_input(images)).softmax(dim=1)
    best = probabilities.max(dim=1)
    return [
        {"row": row, "label": int(label), "probability": float(probability)}
        for row, (label, probability) in enumerate(zip(best.indices, best.values, strict=True), start=1)
    ]


def main(arguments: argparse.Namespace) -> None:
    """Print one line an image, or JSON."""
    predictions = predict(arguments.input, arguments.run, arguments.invert)
    if arguments.json:
        print(json.dumps(predictions, indent=2))
        return
    print("row,label,probability")
    for prediction in predictions:
        print(f"{prediction['row']},{prediction['label']},{prediction['probability']:.4f}")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.predict", description=__doc__.split(":")[0])
    described.add_argument("input", type=Path, metavar="IMAGE_OR_CSV", help="an image that the digit fills, or a table")
    described.add_argument("--run", type=Path, default=MAIN, help="folder of a run (default: models/main)")
    described.add_argument("--invert", action="store_true", help="the digits are dark on a bright ground")
    described.add_argument("--json", action="store_true", help="print JSON instead of CSV")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
