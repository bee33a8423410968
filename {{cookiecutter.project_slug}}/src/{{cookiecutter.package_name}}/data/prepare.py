"""Make arrays and the split of the raw data: `python -m <package>.data.prepare`, the second stage of `make data`."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ..cli import run_command
from ..config import check
from ..errors import UserError
from .images import SIDE
from .prepared import settings

BLOCK = 4096  # rows that are turned into numbers at a time: as text and as floats they take a hundred times the room


def prepare(cfg: DictConfig) -> dict[str, Any]:
    """Write `{train,val,test}_{images,labels}.npy` and `dataset.json` to `cfg.paths.processed`.

    The split is stratified by label and a function of `cfg.data.split` alone, so every run writes the same bytes.

    Returns:
        What `dataset.json` holds: the settings, the number of samples and the raw rows of each split.

    Raises:
        UserError: the raw file is missing or is not the expected table, or the fractions leave no training data.
    """
    from sklearn.model_selection import train_test_split

    check(cfg)
    images, labels = read_table(Path(cfg.paths.raw) / cfg.data.files[0].name)
    split = cfg.data.split
    if split.val + split.test >= 1:
        raise UserError(f"data.split.val={split.val} and test={split.test} leave no training data: lower one of them.")
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=split.test, stratify=labels, random_state=split.seed
    )
    train, val = train_test_split(
        rest, test_size=split.val / (1 - split.test), stratify=labels[rest], random_state=split.seed
    )
    rows = {name: np.sort(index) for name, index in (("train", train), ("val", val), ("test", test))}

    processed = Path(cfg.paths.processed)
    processed.mkdir(parents=True, exist_ok=True)
    for name, index in rows.items():
        np.save(processed / f"{name}_images.npy", images[index])
        np.save(processed / f"{name}_labels.npy", labels[index])
    dataset = {
        **settings(cfg),
        "samples": {name: len(index) for name, index in rows.items()},
        "rows": {name: index.tolist() for name, index in rows.items()},
    }
    (processed / "dataset.json").write_text(json.dumps(dataset) + "\n")
    print(", ".join(f"{name}: {len(index):,} images" for name, index in rows.items()))
    return dataset


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the published table.

    Returns:
        images: uint8, shape (N, 8, 8), 0 (paper) to 16 (ink); labels: int64, shape (N,), 0 to 9.

    Raises:
        UserError: the file is missing, or is not a table of 65 whole numbers a row.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run `make data`.")
    images, labels = [], []
    try:
        with gzip.open(path, "rt") as text:
            while lines := list(islice(text, BLOCK)):
                table = np.loadtxt(lines, delimiter=",", ndmin=2)
                if table.shape[1] != SIDE * SIDE + 1:
                    raise ValueError(f"it has {table.shape[1]} columns, not 65")
                images.append(table[:, :-1].astype(np.uint8))
                labels.append(table[:, -1].astype(np.int64))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a table ({error}): adapt read_table() in data/prepare.py.") from error
    if not images:
        raise UserError(f"{path} is empty: adapt read_table() in data/prepare.py.")
    return np.concatenate(images).reshape(-1, SIDE, SIDE), np.concatenate(labels)


if __name__ == "__main__":
    run_command(prepare)
