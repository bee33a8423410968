"""The library's panels: figures of what the main run's experiment predicts, by its predictions.csv.

A panel is a function that is given a `Panel`, and the settings beside its name in configs/report.yaml. It returns what
`panel.save` returns, or None where there is nothing to draw. Classification: `confusion`; regression:
`predicted_against_true`, `residuals`; sequences: `loss_by_position`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.errors import UserError
from .figures import COLOURS, WIDTH, Figure, Panel, scale

MOST_CLASSES = 25  # that are written out
MOST_POINTS = 1000  # that are drawn one by one; of more, how many lie where
MOST_TARGETS = 6  # of a regression, that are drawn


def of_all_seeds(panel: Panel, *columns: str) -> list[list[dict[str, str]]]:
    """Read the rows of each seed that has these columns; none, with a note, where the main run has not."""
    if not panel.rows(*columns):
        return []
    return [rows for run in panel.experiment.runs if (rows := panel.rows(*columns, run=run))]


def confusion(panel: Panel, classes: Sequence[Any] | None = None) -> Figure | None:
    """Draw how often each true label was given each predicted one, over all seeds: a panel for classification.

    Args:
        panel: what is drawn, and where.
        classes: what labels are called, in their order; None: their numbers.
    """
    found = of_all_seeds(panel, "label", "predicted")
    if not found:
        return None
    pairs = [(int(row["label"]), int(row["predicted"])) for rows in found for row in rows]
    count = max(max(pair) for pair in pairs) + 1
    if classes is not None and len(classes) < count:
        raise UserError(
            f"configs/report.yaml: classes has {len(classes)} names, but there are {count} labels: name all."
        )
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, tuple(np.array(pairs).T), 1)
    names = [str(name) for name in classes or range(count)]
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
        of = panel.experiment.extent
        text = f"{right:,} of {counts.sum():,} test samples right ({of}); the darker, the larger the label's share"
        return panel.save(figure, "confusion", f"Which labels are confused: {panel.experiment.name}", text)


def predicted_against_true(panel: Panel) -> Figure | None:
    """Draw predicted against true values, over all seeds: a panel for regression."""

    def draw(axis: Any, true: np.ndarray, predicted: np.ndarray) -> str:
        points(axis, true, predicted)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axis.plot(ends, ends, color="black", linewidth=1)
        axis.set(xlabel="true", ylabel="predicted")
        return f"root mean square error {math.sqrt(np.mean((predicted - true) ** 2)):.3g}"

    return of_targets(panel, "predicted", "Predicted against true", "on the line the two are equal", draw)


def residuals(panel: Panel) -> Figure | None:
    """Draw residuals, predicted minus true, against predicted values, over all seeds: a panel for regression."""

    def draw(axis: Any, true: np.ndarray, predicted: np.ndarray) -> str:
        rest = predicted - true
        points(axis, predicted, rest)
        axis.axhline(0, color="black", linewidth=1)
        axis.set(xlabel="predicted", ylabel="predicted − true")
        return f"mean {np.mean(rest):.2g}, standard deviation {np.std(rest):.3g}"

    return of_targets(panel, "residuals", "Residuals", "without structure, nothing is left to learn", draw)


def of_targets(
    panel: Panel, name: str, title: str, meaning: str, draw: Callable[[Any, np.ndarray, np.ndarray], str]
) -> Figure | None:
    """Draw a figure for each target of a regression, side by side, by a function that says what it has drawn."""
    columns = panel.run.predictions[0] if panel.run.predictions else {}
    ends = [key.removeprefix("target") for key in columns if key.startswith("target")][:MOST_TARGETS] or [""]
    found = of_all_seeds(panel, *(f"{part}{end}" for end in ends for part in ("target", "predicted")))
    if not found:
        return None
    lines = -(-len(ends) // 2)
    height = WIDTH * (0.75 if len(ends) == 1 else 0.55 * lines)
    with panel.canvas(height, nrows=lines, ncols=min(2, len(ends)), squeeze=False) as (figure, axes):
        said = []
        for axis, end in zip(axes.flat, ends, strict=False):
            said.append(
                end.lstrip("_")
                + (": " if end else "")
                + draw(
                    axis,
                    *(
                        np.array([float(row[f"{part}{end}"]) for rows in found for row in rows])
                        for part in ("target", "predicted")
                    ),
                )
            )
            axis.set_title(end and f"target {end.lstrip('_')}", fontsize=9)
        for axis in axes.flat[len(ends) :]:
            axis.axis("off")
        text = f"{sum(map(len, found)):,} test samples ({panel.experiment.extent}); {meaning}; {'; '.join(said)}"
        return panel.save(figure, name, f"{title}: {panel.experiment.name}", text)


def points(axis: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points; of many, by how many lie in each place, the darker the more."""
    if len(x) <= MOST_POINTS:
        axis.plot(x, y, "o", color=COLOURS[0], markersize=4, markeredgewidth=0, alpha=0.5)
    else:
        axis.hexbin(x, y, gridsize=30, cmap="Blues", bins="log", mincnt=1, linewidths=0.1)


def loss_by_position(panel: Panel) -> Figure | None:
    """Draw the mean loss at each position of a sequence, of all seeds: a panel for sequences."""
    found = of_all_seeds(panel, "position", "samples", "loss")
    if not found:
        return None
    losses = [[float(row["loss"]) for row in rows] for rows in found]
    values = np.array([each for each in losses if len(each) == len(losses[0])])  # (seeds, T)
    mean, positions = values.mean(axis=0), range(values.shape[1])
    with panel.canvas(3.0) as (figure, axis):
        axis.fill_between(positions, values.min(axis=0), values.max(axis=0), color=COLOURS[0], alpha=0.2, linewidth=0)
        axis.plot(positions, mean, color=COLOURS[0], marker="o" if len(mean) < 40 else None, markersize=3)
        scale(axis, values[np.isfinite(values)].tolist() or [1.0])
        axis.set(xlabel="position", ylabel="mean loss")
        count, of = int(found[0][0]["samples"]), panel.experiment.extent
        text = f"mean loss of {count:,} test sequences ({of}); at the first {mean[0]:.3g}, at the last {mean[-1]:.3g}"
        return panel.save(figure, "loss-by-position", f"Loss by position: {panel.experiment.name}", text)
