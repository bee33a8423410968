"""Make the data larger: `grow_data.py TIMES`; each image so many times, moved by up to a pixel, in an order of chance.

The file lies beside the project's folder, and configs/data/digits.yaml has its address and its sha256.
"""

import gzip
import re
import sys
from pathlib import Path

import numpy as np
from handwritten_digits.data.prepare import read_raw
from samebits import project
from samebits.engine.files import file_sha256

(times,) = map(int, sys.argv[1:])
random = np.random.default_rng(0)
blocks = [[block["images"], block["labels"]] for block in read_raw([project().root / "data/raw/digits/digits.csv.gz"])]
images, labels = (np.repeat(np.concatenate(each), times, axis=0) for each in zip(*blocks, strict=True))
moves = random.integers(-1, 2, (len(images), 2))
for down in (-1, 0, 1):
    for right in (-1, 0, 1):
        which = (moves == (down, right)).all(axis=1)
        images[which] = np.roll(images[which], (down, right), axis=(1, 2))
table = random.permutation(np.column_stack([images.reshape(len(images), -1), labels]))
path = Path(f"{project().root}.csv.gz")
with gzip.open(path, "wt", compresslevel=1) as text:
    np.savetxt(text, table, fmt="%d", delimiter=",")
config = project().configs / "data/digits.yaml"
lines = re.sub(r"uri: \S+", f"uri: file://{path}", config.read_text())
config.write_text(re.sub(r'sha256: "\w+"', f'sha256: "{file_sha256(path)}"', lines))
print(len(images))
