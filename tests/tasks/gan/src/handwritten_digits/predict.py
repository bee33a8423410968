"""Generate digits on the CPU: `python -m <package>.predict PNG [--count 10] [--seed 0] [--run models/...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import samebits
from PIL import Image


def predict(count: int, seed: int = 0, run: Path | None = None) -> np.ndarray:
    """Generate images by the model of a run (by default models/main): float32 (count, 8, 8), 0 to 1."""
    model = samebits.load(run).model()
    import torch  # here, so that the run's settings can pin its arithmetic first

    torch.manual_seed(seed)
    with torch.inference_mode():
        return model(count)[:, 0].numpy()


@samebits.command
def main() -> None:
    """Write the images into one PNG, side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("path", type=Path, metavar="PNG", help="the file to write")
    parser.add_argument("--count", type=int, default=10, help="of images (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise that they are made of (default: 0)")
    parser.add_argument("--run", type=Path, help="folder of a run (default: models/main)")
    arguments = vars(parser.parse_args())
    path = arguments.pop("path")
    pixels = np.kron(np.hstack(list(predict(**arguments))), np.ones((10, 10)))  # ten times as large
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)
    print(f"{arguments['count']} images: {path}")


if __name__ == "__main__":
    main()
