"""The numbers as files for other programs: results.csv, and results.tex for a paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from ..repro.files import write_atomically
from .experiments import Experiment
from .statistics import Estimate, decimals, estimate

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def metrics_of(experiments: Sequence[Experiment]) -> list[str]:
    """List the metrics that any run has, in their order."""
    return list(dict.fromkeys(name for each in experiments for run in each.runs for name in run.metrics))


def write_csv(path: Path, experiments: Sequence[Experiment]) -> None:
    """Write one line for each run, with exact numbers: experiment, seed, run, metrics, weights (sha256 by content)."""
    metrics = metrics_of(experiments)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "seed", "run", *metrics, "weights"])
    for each in experiments:
        for run in each.runs:
            numbers = [repr(run.metrics[name]) if name in run.metrics else "" for name in metrics]
            writer.writerow([each.name, run.seed, run.id, *numbers, run.weights])
    write_atomically(path, text.getvalue().encode())


def write_latex(path: Path, experiments: Sequence[Experiment], metrics: Sequence[str]) -> None:
    r"""Write a table for `\input`; it needs the package booktabs. Comments link each number to the runs behind it."""
    lines = [
        "% Written by `make report`; needs \\usepackage{booktabs}. Mean over seeds with the half width of its 95 %",
        "% interval (Student's t). In comments: the runs behind each row, and their exact numbers.",
        f"\\begin{{tabular}}{{l{'r' * (len(metrics) + 1)}}}",
        "\\toprule",
        " & ".join(["experiment", "seeds", *map(escape, metrics)]) + " \\\\",
        "\\midrule",
    ]
    for each in experiments:
        cells = []
        for metric in metrics:
            values = each.values(metric)
            cells.append(_latex(estimate(list(values.values()))) if values else "--")
        lines.append(" & ".join([escape(each.name), str(len(each.runs)), *cells]) + " \\\\")
        for run in each.runs:
            numbers = ", ".join(f"{name} {run.metrics[name]!r}" for name in metrics if name in run.metrics)
            lines.append(f"%   {run.id}: {numbers}")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    write_atomically(path, "\n".join(lines).encode())


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: SPECIAL.get(match[0], f"\\{match[0]}"), text)


def _latex(value: Estimate) -> str:
    digits = decimals(value.half)
    if value.half is None:
        return f"{value.mean:.{digits}f}"
    return f"${value.mean:.{digits}f} \\pm {value.half:.{digits}f}$"
