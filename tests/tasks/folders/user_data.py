"""What its user has: a folder data/external/photos, and in it a folder for each class, with images of several sizes."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

random = np.random.default_rng(0)
digits = load_digits()
for number, (ink, label) in enumerate(zip(digits.images[:400] / 16, digits.target[:400], strict=True)):
    paper, colour = random.integers(0, 150, 3), random.integers(100, 256, 3)
    pixels = (paper + ink[..., None] * (colour - paper)).astype(np.uint8)
    path = Path(f"data/external/photos/{NAMES[label]}/{number:03}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    side = int(random.integers(16, 25))
    # not compressed, so that the bytes are those of every zlib
    Image.fromarray(pixels).resize((side, side)).save(path, compress_level=0)
