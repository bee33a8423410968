"""What is special to classification: which labels are confused, and which test images are read wrongly.

Replace it, with predictions.py, where the task is another one; a report without predictions leaves these figures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.images import INK
from ..errors import UserError
from ..repro.hashing import file_sha256
from .experiments import Experiment
from .figures import WIDTH, Figure, canvas, save
from .runs import FinishedRun

IMAGES = "test_images.npy"  # of data/processed: what the indices of predictions.csv count
MOST_CLASSES = 25  # that are written out


def confusion(experiment: Experiment, classes: Sequence[str] | None, folder: Path) -> Figure | None:
    """Draw how often each true label was given each predicted one, summed over the seeds; None without predictions."""
    rows = [row for run in experiment.runs for row in run.predictions]
    if not rows:
        return None
    pairs = [(int(row["label"]), int(row["predicted"])) for row in rows]
    count = max(max(pair) for pair in pairs) + 1
    if classes is not None and len(classes) < count:
        raise UserError(
            f"configs/report.yaml: classes has {len(classes)} names, but there are {count} labels: name all."
        )
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, tuple(np.array(pairs).T), 1)
    names = [str(each) for each in classes or range(count)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(WIDTH * 0.95) as (figure, axis):
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axis.grid(False)
        axis.set(xlabel="predicted", ylabel="true")
        if count <= MOST_CLASSES:
            turned = 90 if max(map(len, names)) > 3 else 0
            axis.set_xticks(range(count), names, rotation=turned)
            axis.set_yticks(range(count), names)
            for row, column in np.argwhere(counts):
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=colour)
        right = int(np.trace(counts))
        seeds = f"{len(experiment.runs)} seeds" if len(experiment.runs) > 1 else "one seed"
        text = f"{right:,} of {counts.sum():,} test images right ({seeds}); the darker, the larger the label's share"
        return save(figure, folder, "confusion", f"Which labels are confused: {experiment.name}", text)


def errors(run: FinishedRun, most: int, processed: Path, folder: Path) -> tuple[Figure | None, str]:
    """Draw the test images that a run reads wrongly, those first of which it was most certain.

    Args:
        run: whose predictions.
        most: images.
        processed: folder of the data.
        folder: for the figure.

    Returns:
        The figure; or None, and a sentence that says why.
    """
    if not run.predictions or most == 0:
        return None, ""
    wrong = [row for row in run.predictions if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["probability"]), int(row["index"])))
    if not wrong:
        return None, f"{run.id} reads every test image rightly."
    path = processed / IMAGES
    if not path.exists() or file_sha256(path) != run.record["inputs"]["data"].get(IMAGES):
        return None, f"The images of {run.id} are not in {processed.name}/ at the moment: make data."
    images = np.load(path, mmap_mode="r")
    shown = wrong[:most]
    columns = 4
    lines = -(-len(shown) // columns)
    with canvas(1.35 * lines, nrows=lines, ncols=columns, squeeze=False) as (figure, axes):
        for axis in axes.flat:
            axis.axis("off")
        for axis, row in zip(axes.flat, shown, strict=False):
            axis.imshow(images[int(row["index"])], cmap="gray_r", vmin=0, vmax=INK)
            axis.set_title(
                f"{row['label']} read as {row['predicted']}\n{float(row['probability']):.0%} sure", fontsize=8
            )
        text = f"{len(shown)} of {len(wrong)} errors among {len(run.predictions):,} test images, the most certain first"
        return save(figure, folder, "errors", f"What {run.id} reads wrongly", text), ""
