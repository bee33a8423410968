"""Figures of the report that only this task has; configs/report.yaml names them under `panels`."""

from __future__ import annotations

from typing import Any

import numpy as np
import samebits

from .data.images import to_input


def masks(panel: samebits.Panel, count: int) -> Any:
    """Draw image, mask and prediction of the `count` test samples whose masks the main run hits worst."""
    worst = sorted(panel.rows("iou"), key=lambda row: float(row["iou"]))[:count]
    paths = [panel.data_file(f"test_{name}.npy") for name in ("images", "masks")]
    if not worst or None in paths:
        return None
    index = [int(row["index"]) for row in worst]
    images, true = (np.load(path, mmap_mode="r")[index] for path in paths if path)
    scores = samebits.load(panel.run.directory).model()(to_input(images)).detach().numpy()
    with panel.canvas(1.5 * count, nrows=len(worst), ncols=3, squeeze=False) as (figure, axes):
        for row, axis, *shown in zip(worst, axes, images, true, scores > 0, strict=True):
            for cell, pixels, title in zip(axis, shown, ("image", "mask", f"IoU {float(row['iou']):.2f}"), strict=True):
                cell.imshow(pixels, cmap="gray_r")
                cell.set_title(title, fontsize=8)
                cell.axis("off")
        return panel.save(figure, "masks", f"Masks that {panel.run.id} hits worst", "image, true and predicted mask")
