"""Figures of the report that only this task has; configs/report.yaml names them under `panels`."""

from __future__ import annotations

from typing import Any

import numpy as np
import samebits

from .data.images import INK

COLUMNS = 4


def mistakes(panel: samebits.Panel, count: int) -> Any:
    """Draw up to `count` test images that the main run reads wrongly, those first of which it was most certain."""
    rows = panel.rows("label", "predicted", "probability")
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row["probability"]), int(row["index"])))
    shown = wrong[:count]
    if not shown:
        if rows and not wrong:
            panel.notes.append(f"{panel.run.id} reads every test image rightly.")
        return None
    path = panel.data_file("test_images.npy")
    if path is None:
        return None
    images = np.load(path, mmap_mode="r")
    lines = -(-len(shown) // COLUMNS)
    with panel.canvas(1.35 * lines, nrows=lines, ncols=COLUMNS, squeeze=False) as (figure, axes):
        for axis in axes.flat:
            axis.axis("off")
        for axis, row in zip(axes.flat, shown, strict=False):
            axis.imshow(images[int(row["index"])], cmap="gray_r", vmin=0, vmax=INK)
            title = f"{row['label']} read as {row['predicted']}\n{float(row['probability']):.0%} sure"
            axis.set_title(title, fontsize=8)
        text = f"{len(shown)} of {len(wrong)} errors among {len(rows):,} test images, the most certain first"
        return panel.save(figure, "errors", f"What {panel.run.id} reads wrongly", text)
