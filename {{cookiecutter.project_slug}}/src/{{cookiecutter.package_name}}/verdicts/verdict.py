"""The five verdicts on a run that was trained again, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..repro.traces import Divergence, first_divergence
from . import differences
from .differences import Difference
from .rerun import Result

if TYPE_CHECKING:
    from .distance import Distance

INCIDENTAL = (  # change no results
    "system.os",
    "system.container",
    "processor.cores",
    "threads.between operations",
    "packages that only one has",
)


def telling(environment: list[Difference]) -> bool:
    """Whether something differs in the environment that may change results."""
    return any(name not in INCIDENTAL for name, *_ in environment)


class Kind(Enum):
    """What can be found."""

    IDENTICAL = "every traced step, every tensor and every metric is the same, bit for bit"
    ENVIRONMENT = "two trainings here agree with each other, and not with the record"
    NONDETERMINISTIC = "two trainings here, from the same inputs, disagree with each other"
    DIFFERENT_INPUTS = "code, settings, data or seed are not those of the record"
    TAMPERED = "the parts of the record contradict each other: something was edited after the run"

    @property
    def title(self) -> str:
        """The name as it is printed."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Comparison:
    """What differs between two trainings; nothing, where both were the same.

    Attributes:
        divergence: the first step and column of the traces.
        tensors: names of the weights that differ.
        metrics: those that differ, with both values.
        distance: how far the weights are apart, where both are at hand.
    """

    divergence: Divergence | None
    tensors: list[str]
    metrics: list[Difference]
    distance: Distance | None

    def __bool__(self) -> bool:
        return bool(self.divergence or self.tensors or self.metrics)


def compare(one: Result, other: Result, upto: int | None = None) -> Comparison:
    """Compare two trainings bit for bit.

    Args:
        one: a training.
        other: another one.
        upto: only the steps up to this one.
    """
    divergence = first_divergence(one.rows, other.rows, upto)
    if upto is not None or one.outputs is None or other.outputs is None:
        return Comparison(divergence, [], [], None)
    tensors = differences.files(one.outputs["tensors"], other.outputs["tensors"])
    metrics = differences.differing(one.outputs["metrics"], other.outputs["metrics"])
    mine, theirs = one.outputs.get("predictions"), other.outputs.get("predictions")
    if mine and theirs and mine != theirs:
        metrics.append(("predictions", mine[:12], theirs[:12]))
    apart = None
    if tensors and one.weights.exists() and other.weights.exists():
        from .distance import distance  # here, because it loads NumPy

        apart = distance(one.weights, other.weights)
    return Comparison(divergence, [name for name, *_ in tensors], metrics, apart)


@dataclass
class Verdict:
    """A verdict and its evidence.

    Attributes:
        kind: which one.
        run: the run's id.
        steps: the last step that was compared; None where all was.
        causes: why, each a sentence.
        inputs: differences of code, settings, lock, data and files from elsewhere: the recorded value, and that here.
        diff: of the code, short.
        environment: differences of the environment.
        comparison: what came out otherwise; None where nothing was trained.
        compared: how much was: rows, tensors, metrics.
        suspects: calls in the code that ask for what is not written down.
        command: what trains the run.
        portable: whether it promises the same bits on other processors.
        details: for machines: who, when, where.
    """

    kind: Kind
    run: str
    steps: int | None = None
    causes: list[str] = field(default_factory=list)
    inputs: list[Difference] = field(default_factory=list)
    diff: str = ""
    environment: list[Difference] = field(default_factory=list)
    comparison: Comparison | None = None
    compared: dict[str, int] = field(default_factory=dict)
    suspects: list[str] = field(default_factory=list)
    command: str = "make train"
    portable: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status."""
        return 0 if self.kind is Kind.IDENTICAL else 1

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        comparison: dict[str, Any] | None = None
        if self.comparison is not None:
            each, first = self.comparison, self.comparison.divergence
            comparison = {
                "first_divergence": first
                and {
                    "step": first.step,
                    "column": first.column,
                    "parameters": list(first.parameters),
                    "operator": first.operator or None,
                },
                "tensors": each.tensors,
                "metrics": [list(metric) for metric in each.metrics],
                "distance": each.distance.as_dict() if each.distance else None,
            }
        return {
            "verdict": self.kind.title,
            "meaning": self.kind.value,
            "run": self.run,
            "upto_step": self.steps,
            "causes": self.causes,
            "inputs": [list(each) for each in self.inputs],
            "environment": [list(each) for each in self.environment],
            "diff": self.diff,
            "comparison": comparison,
            "compared": self.compared,
            "suspects": self.suspects,
            **self.details,
        }
