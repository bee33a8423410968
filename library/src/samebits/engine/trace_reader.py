"""Reading traces: trace.jsonl, as trace.py writes it, needs no PyTorch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TRACE = "trace.jsonl"
SUMMED = "+"  # what fingerprints that a GPU has made of sums begin with
COLUMNS = {  # in the order of cause and effect
    "batch": "the data that the step was given",
    "rng": "random numbers drawn in the forward pass",
    "loss": "the forward pass",
    "grad": "the backward pass",
    "weights": "the optimiser",
}
WORDS = {"rng": "in the random numbers", "grad": "in the gradients", "end": "where one of the traces ends"}
VALIDATION, FINAL, TEST = EVALUATIONS = ("validation", "final validation", "test")  # in the order of their rows
OF_EVALUATIONS = {
    "weights": "the weights that are measured",
    "batch": "the data that they are measured on",
    "outputs": "what validation_step or test_step returned",
    "metrics": "how the metrics are computed",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Divergence:
    """Where two trainings part ways first."""

    step: int
    column: str
    parameters: tuple[str, ...] = ()  # those that differ, where the step has an entry for each; names of metrics
    operator: str = ""  # the first whose result differs, where the step's are listed
    since: int = 0  # the last step before at which they were the same; those in between are not traced
    evaluation: str = ""  # which of the EVALUATIONS, where it is not in a step of training

    @property
    def exact(self) -> bool:
        """Whether the step before was the same; if not, the first to differ may be one that is not traced."""
        return self.step - self.since <= 1 or bool(self.evaluation and self.column != "weights")

    @property
    def operator_unknown(self) -> bool:
        """Whether it is in a step of training whose operators are not listed."""
        return bool(self.step and not self.evaluation and not self.operator)

    def when(self) -> str:
        """Name the step or evaluation, or the steps between which it is."""
        if not self.exact:
            return f"a step from {self.since + 1} to {self.step}"
        after = f" after step {self.step}" if self.evaluation == VALIDATION else ""
        return f"{self.evaluation}{after}" if self.evaluation else f"step {self.step}"

    def __str__(self) -> str:
        return f"{self.when()}, {self.where()}"

    def where(self) -> str:
        """Name the column in words, and as far as it is known the parameter and the operator."""
        where = WORDS.get(self.column, f"in the {self.column}")
        if self.parameters:
            more = f" and {len(self.parameters) - 1} more" if len(self.parameters) > 1 else ""
            named = f"{self.parameters[0]}{more}"
            where += f" ({named})" if self.column == "metrics" else f", parameter {named}"
        return where + (f", operator {self.operator}" if self.operator else "")

    def meaning(self) -> str:
        """Say what the column stands for."""
        if self.step == 0 and not self.evaluation:
            return "the initial weights"
        if not self.exact:
            return "the steps in between are not traced"
        return (OF_EVALUATIONS if self.evaluation else COLUMNS).get(self.column, self.column)


def read_trace(path: Path) -> list[Row]:
    """Read all rows; one that is none ends the list."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def broken_row(path: Path) -> str | None:
    """Find the first row that does not follow on the lines before it; None where all do."""
    sha256, last = hashlib.sha256(), None
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise TypeError
            if row["follows"] != sha256.hexdigest()[: len(row["follows"])]:
                after = f"after step {last}, " if last is not None else ""
                return f"{after}line {number} (step {row['step']}) does not follow on the lines before it"
        except (ValueError, KeyError, TypeError, RecursionError):
            return f"line {number} is no row of a trace"
        sha256.update(line)
        last = row["step"]
    return None


def first_divergence(one: list[Row], other: list[Row], upto: int | None = None) -> Divergence | None:
    """Find the first step or evaluation, and in it the first column, at which two traces differ.

    Those that only one of them has are passed over, except after the other's end.

    Args:
        one: rows of a trace.
        other: rows of the other.
        upto: the last step to look at.
    """
    others, mine = ({_place(row): row for row in rows} for rows in (other, one))
    since = 0
    for place in sorted(mine.keys() & others.keys()):
        step = place[0]
        if upto is not None and step > upto:
            return None
        found = _in_row(mine[place], others[place])
        if found:
            found = replace(found, since=min(since, found.step))
            return found if found.exact else replace(found, operator="")  # it may only pass on what went wrong before
        since = step
    if upto is None and one and other and one[-1]["step"] != other[-1]["step"]:
        return Divergence(min(one[-1]["step"], other[-1]["step"]), "end")  # one of them went on longer
    return None


def _place(row: Row) -> tuple[int, int, int]:
    """Where a row stands in the order of cause and effect."""
    evaluation = row.get("evaluation")
    return row["step"], EVALUATIONS.index(evaluation) + 1 if evaluation in EVALUATIONS else 0, row.get("batches", 0)


def _in_row(one: Row, other: Row) -> Divergence | None:
    operator = _first_operator(one.get("operators"), other.get("operators"))
    evaluation = one.get("evaluation", "")
    for column in OF_EVALUATIONS if evaluation else COLUMNS:
        if column not in one or column not in other:
            continue
        mine, theirs = one[column], other[column]
        if isinstance(mine, dict) and isinstance(theirs, dict):
            differing = tuple(name for name in {**mine, **theirs} if _differ(mine.get(name), theirs.get(name)))
            if differing:
                return Divergence(one["step"], column, differing, operator, evaluation=evaluation)
        elif isinstance(mine, dict) or isinstance(theirs, dict):
            continue  # one is dense here, the other is not
        elif _differ(mine, theirs):
            return Divergence(one["step"], column, (), operator, evaluation=evaluation)
    return None


def _differ(mine: Any, theirs: Any) -> bool:
    """Whether two entries differ; fingerprints of two kinds, as of a CPU and of a GPU, tell nothing of each other."""
    both = isinstance(mine, str) and isinstance(theirs, str)
    return bool(mine != theirs) and not (both and mine.startswith(SUMMED) != theirs.startswith(SUMMED))


def _first_operator(one: list[list[str]] | None, other: list[list[str]] | None) -> str:
    """Name the first operator that is another one, or gives another result."""
    if not one or not other:
        return ""
    for mine, theirs in zip(one, other, strict=False):
        if mine[:2] != theirs[:2]:
            return f"{_name(mine)} (the other: {_name(theirs)})"
        if _differ(mine[2], theirs[2]):
            return _name(mine)
    return "" if len(one) == len(other) else "one step has more operators than the other"


def _name(row: list[str]) -> str:
    return f"{row[0].removesuffix('.default')} in {row[1]}"
