"""Panels of the report for classification; they read the predictions.csv that `samebits.Predictions` writes."""

from __future__ import annotations

import numpy as np

from ..engine.errors import UserError
from .figures import WIDTH, Figure, Panel

MOST_CLASSES = 25  # that are written out


def confusion(panel: Panel) -> Figure | None:
    """Draw how often each true label was given each predicted one, summed over the seeds; None without predictions."""
    experiment, classes = panel.experiment, panel.settings.classes
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
    with panel.canvas(WIDTH * 0.95) as (figure, axis):
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
        return panel.save(figure, "confusion", f"Which labels are confused: {experiment.name}", text)
