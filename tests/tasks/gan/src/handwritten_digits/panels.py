"""Figures of the report that only this task has; configs/report.yaml names them under `panels`."""

from __future__ import annotations

from typing import Any

import samebits

from .predict import predict

COLUMNS = 10


def digits(panel: samebits.Panel, count: int = 40) -> Any:
    """Draw `count` images that the main run's model generates."""
    lines = -(-count // COLUMNS)
    with panel.canvas(0.5 * lines, nrows=lines, ncols=COLUMNS, squeeze=False) as (figure, axes):
        for axis in axes.flat:
            axis.axis("off")
        for axis, image in zip(axes.flat, predict(count, run=panel.run.directory), strict=False):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        text = f"{count} generated images, none of them chosen"
        return panel.save(figure, "digits", f"What {panel.run.id} generates", text)
