"""Evaluations in the trace, and what follows: an honest record is not called tampered, a forged metric is found."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .conftest import Compose
from .cutting import Killer, Train, outcome
from .forging import reseal, rewrite
from .project import FEW, LIBRARY, NAME, ROOT, module

records, traces = module("samebits.engine.record"), module("samebits.engine.trace_reader")
provenance_diff, comparison = module("samebits.verify.provenance_diff"), module("samebits.verify.comparison")
fingerprint = module("samebits.engine.fingerprint")
CLASSIFIER = f"src/{NAME}/models/classifier.py"
TEST_STEP = 'return {"scores": self._score(batch, self.test_loss, self.test_scores), "labels": batch[1]}'
VALIDATION_STEP = "self._score(batch, self.val_loss, self.val_scores)"
SCALED = TEST_STEP.replace("(batch, ", "((batch[0] * float(os.environ.get('GAIN', '1')), batch[1]), ")
WITH_FILE = "self._score((batch[0] * float(Path('notes.txt').read_text()), batch[1]), self.val_loss, self.val_scores)"
IN_TRAINING = ("model._target_=tests.busy.BusyClassifier", "callbacks.best=null", "trainer.limit_train_batches=10")
Row = dict[str, Any]


# --- the rows


def evaluations(run: Path) -> list[Row]:
    return [row for row in traces.read_trace(run / "trace.jsonl") if "evaluation" in row]


def test_every_evaluation_has_a_row(trained: Path) -> None:
    found, record = evaluations(trained), records.read_record(trained)
    assert [(row["step"], row["evaluation"]) for row in found] == [(2, kind) for kind in traces.EVALUATIONS]
    columns = ["step", "evaluation", *traces.OF_EVALUATIONS]
    assert [list(row) for row in found] == [[*columns, "follows"]] + [[*columns, "inputs", "follows"]] * 2
    assert found[0]["batch"] == found[1]["batch"] != found[2]["batch"]
    assert found[0]["metrics"] == found[1]["metrics"]  # the weights that are kept are those of this validation
    measured = {name: float(value) for row in found[1:] for name, value in row["metrics"].items()}
    assert measured == record["outputs"]["metrics"] and len(measured) == 6
    assert {row["weights"] for row in found[1:]} == {record["outputs"]["weights"]}
    assert traces.broken_row(trained / "trace.jsonl") is None


def test_only_tensors_count_and_whatever_is_returned_is_taken() -> None:
    of = fingerprint.begin_tensors
    assert of({"a": torch.ones(2), "clock": 0.1, "path": "/x"}) == of([torch.ones(2), object(), 0.2]) != of(None)
    assert of([np.ones(2)]) == of(np.ones(4)[::-2]) == of(torch.ones(2, dtype=torch.float64))
    assert of(np.array(["a", "b"])) == of(None) == of(np.array([object()], dtype=object))
    assert of(torch.ones(2, device="meta")) == of(torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])) == ""


@pytest.mark.parametrize(
    ("hook", "after"),
    [("on_validation_batch_start", 9), ("on_validation_end", 5), ("on_test_batch_start", 1), ("on_test_epoch_end", 1)],
)
def test_a_kill_within_an_evaluation_leaves_the_same_trace(train: Train, hook: str, after: int) -> None:
    alone, _ = train("evaluated alone")
    name = f"killed in {hook}"
    killed, _ = train(name, Killer(hook, after))
    assert not (killed / "metrics.json").exists()
    train(name)
    assert outcome(killed) == outcome(alone)
    assert len(evaluations(killed)) > 10 and any("batches" in row for row in evaluations(killed))


def test_how_often_is_validated_makes_no_difference(settings: Compose, tmp_path: Path) -> None:
    found = []
    words = {"often": ("trainer.val_check_interval=0.2", "trainer.num_sanity_val_steps=2"), "seldom": ()}
    for name, more in words.items():
        cfg = settings(*IN_TRAINING, *more, f'paths.models="{tmp_path / name}"')
        module("dummy.train").train(cfg)
        (run,) = (tmp_path / name).glob("debug-*")
        found.append(comparison.recorded_result(run, records.read_record(run)))
    assert [len([row for row in each.rows if "evaluation" in row]) for each in found] == [5 + 2, 1 + 2]
    assert not comparison.compare(*found)


@pytest.mark.parametrize("column", list(traces.OF_EVALUATIONS))
def test_the_first_cause_in_an_evaluation_is_named(trained: Path, column: str) -> None:
    rows = traces.read_trace(trained / "trace.jsonl")
    other = copy.deepcopy(rows)
    first, columns = next(row for row in other if "evaluation" in row), list(traces.OF_EVALUATIONS)
    for later in columns[columns.index(column) :]:
        first[later] = {**first[later], "val/f1": "0.0"} if later == "metrics" else "0" * 16
    found = traces.first_divergence(rows, other)
    assert str(found) == f"validation after step 2, in the {column}" + (" (val/f1)" if column == "metrics" else "")
    assert found.meaning() == traces.OF_EVALUATIONS[column] and not found.operator_unknown
    assert traces.first_divergence(rows, other, upto=1) is None
    other[-1]["metrics"]["test/loss"] = "nan"
    other.remove(first)  # a row that only one of them has is passed over
    assert str(traces.first_divergence(rows, other)) == "test, in the metrics (test/loss)"
    rows[-1]["metrics"]["test/loss"] = "nan"
    assert traces.first_divergence(rows, other) is None


def test_weights_that_parted_before_an_evaluation_did_so_in_steps_that_are_not_traced() -> None:
    rows = [{"step": step, "loss": "1"} for step in (0, 1, 2, 100)]
    rows.insert(3, {"step": 40, "evaluation": "validation", "weights": "1", "outputs": "1"})
    other = copy.deepcopy(rows)
    other[3]["outputs"] = "2"
    assert traces.first_divergence(rows, other).when() == "validation after step 40"
    other[3]["weights"] = "2"
    assert str(traces.first_divergence(rows, other)) == "a step from 3 to 40, in the weights"
    later = {"step": 2, "evaluation": "validation", "batches": 3, "outputs": "1"}
    rows, other = ([*each[:3], later, *each[3:]] for each in (rows, other))
    other[3] = later | {"batches": 1, "outputs": "2"}  # as gradients gather, others were validated after the same step
    assert traces.first_divergence(rows, other).step == 40


# --- what the record contradicts by itself


def forge_metric(run: Path, name: str = "test/accuracy") -> None:
    reseal(run, lambda record: record["outputs"]["metrics"].update({name: 0.99}))


def forge_everywhere(run: Path) -> None:
    forge_metric(run)
    rewrite(run, lambda rows: rows[-1]["metrics"].update({"test/accuracy": "0.99"}))


def forge_weights(run: Path) -> None:
    """Put other weights into their file, and their hashes into the record."""
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model.safetensors")
    weights["layers.0.bias"][0] += 1
    save_file(weights, run / "model.safetensors", {"run": run.name})
    whole, each = module("samebits.engine.weights").digests((run / "model.safetensors").read_bytes())
    reseal(run, lambda record: record["outputs"].update(weights=whole, tensors=each))


def forge_hash(run: Path) -> None:
    reseal(run, lambda record: record["outputs"].update(weights="0" * 64))


def break_chain(run: Path) -> None:
    """Change a row, and the hash of the whole file in the record."""
    text = (run / "trace.jsonl").read_text().replace('"epoch": 0', '"epoch": 1', 1)
    (run / "trace.jsonl").write_text(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    reseal(run, lambda record: record["outputs"]["trace"].update(sha256=sha256))


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a test metric": (forge_metric, "test/accuracy is 0.99 in the record, but the test in trace.jsonl gave 0.0"),
    "a validation metric": (
        lambda run: forge_metric(run, "val/loss"),
        "val/loss is 0.99 in the record, but the final validation in trace.jsonl gave 2.",
    ),
    "the trace's metric": (
        lambda run: rewrite(run, lambda rows: rows[-1]["metrics"].update({"test/loss": "0.5"})),
        "in the record, but the test in trace.jsonl gave 0.5",
    ),
    "weights": (forge_weights, "trace.jsonl: the final validation measured the weights"),
    "the hash of all weights": (forge_hash, "but the record is that of 000000000000"),
    "the chain of rows": (break_chain, "trace.jsonl was edited: after step 1, line 3 (step 2) does not follow"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_was_forged_in_some_parts_contradicts_the_others(trained: Path, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(trained, tmp_path / trained.name))
    rewrite(run, lambda rows: None)
    assert provenance_diff.contradictions(run, records.read_record(run)) == []
    change, words = FORGED[name]
    change(run)
    assert words in provenance_diff.contradictions(run, records.read_record(run))[0]


def test_what_was_forged_everywhere_contradicts_nothing(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / trained.name))
    forge_everywhere(run)
    assert provenance_diff.contradictions(run, records.read_record(run)) == []


# --- verdicts

SITECUSTOMIZE = """import builtins, sys

real = builtins.__import__


def patched(name, *arguments, **named):
    made = real(name, *arguments, **named)
    module = sys.modules.get("torchmetrics.classification.accuracy")
    kind = getattr(module, "MulticlassAccuracy", None)
    if kind is not None and not hasattr(kind, "patched"):
        kind.patched, compute = True, kind.compute
        kind.compute = lambda self: compute(self) * {factor}
    return made


builtins.__import__ = patched
"""


class Made:
    """A project of its own, trained."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.environment, self.run = root, dict[str, str](), root
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__", ".cache", ".dvc"))
        shutil.copytree(data, root / "data", dirs_exist_ok=True)

    def call(self, *words: str, status: int = 0) -> str:
        paths = [self.environment.get("FIRST", ""), str(LIBRARY / "src"), str(self.root / "src")]
        environment = os.environ | self.environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment.pop("HYDRA_FULL_ERROR", None)
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def edit(self, old: str, new: str) -> None:
        path = self.root / CLASSIFIER
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def train(self, *words: str) -> Path:
        before = set(self.root.glob("models/debug-*"))
        self.call(f"{NAME}.train", *FEW, *words)
        (run,) = set(self.root.glob("models/debug-*")) - before
        return run

    def verdict(self, run: Path, status: int = 1) -> dict[str, Any]:
        return dict(json.loads(self.call("samebits", "reproduce", str(run), "--json", "--no-file", status=status)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, workspace: Path) -> Made:
    """Make a project whose evaluations hang on what no record names, and train it."""
    project = Made(tmp_path_factory.mktemp("evaluated") / "project", workspace / "data")
    project.edit("from typing", "import os\nimport time\nfrom pathlib import Path\nfrom typing")
    project.edit(TEST_STEP, SCALED)
    project.edit(VALIDATION_STEP, f"{WITH_FILE}\n        return {{'at': time.perf_counter(), 'what': object()}}")
    (project.root / "notes.txt").write_text("1")
    project.run = project.train()
    return project


def where(said: dict[str, Any]) -> str:
    return str(traces.Divergence(**said["comparison"]["divergence"]))


def startup(made: Made, factor: float) -> None:
    """Let Python patch a metric as it starts."""
    (made.root / "first").mkdir(exist_ok=True)
    (made.root / "first/sitecustomize.py").write_text(SITECUSTOMIZE.format(factor=factor))
    made.environment["FIRST"] = str(made.root / "first")


@pytest.fixture
def planted(made: Made) -> Iterator[Made]:
    """Give the project, and put back what acts in it."""
    yield made
    made.environment.clear()
    (made.root / "notes.txt").write_text("1")


def test_what_changes_nothing_in_evaluations_is_no_fault(planted: Made) -> None:
    """A variable that nothing asks for, the same file written anew, a patch by 1, the clock as a number beside it."""
    planted.environment["PAIN"] = "2.5"
    (planted.root / "notes.txt").write_text("1")
    startup(planted, 1.0)
    assert planted.verdict(planted.run, status=0)["verdict"] == "IDENTICAL"


def test_a_variable_that_test_step_alone_asks_for_is_no_forgery(planted: Made) -> None:
    planted.environment["GAIN"] = "2.5"
    said = planted.verdict(planted.run)
    assert said["verdict"] == "ENVIRONMENT" and where(said) == "test, in the outputs"
    assert "the environment variable GAIN, which the code asks for, is not as it was recorded" in said["causes"]


def test_a_file_that_validation_step_reads_is_no_forgery(planted: Made) -> None:
    (planted.root / "notes.txt").write_text("1.5")
    said = planted.verdict(planted.run)
    assert said["verdict"] in ("ENVIRONMENT", "DIFFERENT INPUTS")  # the latter where what was read is recorded
    assert where(said).startswith("validation after step 2, in the metrics (val/loss")


def test_a_metric_that_is_patched_as_python_starts_is_no_forgery(planted: Made) -> None:
    startup(planted, 0.5)
    said = planted.verdict(planted.run)
    assert said["verdict"] == "ENVIRONMENT" and [name for name, *_ in said["environment"]] == ["startup.sitecustomize"]
    assert where(said) == "validation after step 2, in the metrics (val/accuracy)"


def test_a_clock_among_the_outputs_is_not_deterministic(made: Made, tmp_path: Path, workspace: Path) -> None:
    other = Made(tmp_path / "project", workspace / "data")
    clock = "{'at': torch.tensor(__import__('time').perf_counter_ns())}"
    other.edit(VALIDATION_STEP, f"{VALIDATION_STEP}\n        return {clock}")
    said = other.verdict(other.train())
    assert said["verdict"] == "NONDETERMINISTIC" and where(said) == "validation after step 2, in the outputs"


@pytest.fixture
def copied(made: Made) -> Iterator[Path]:
    """Give the run, of which everything may be forged; it is put back afterwards."""
    shutil.copytree(made.run, made.root / "as it was")
    yield made.run
    shutil.rmtree(made.run)
    (made.root / "as it was").rename(made.run)


def test_consistent_forgery_cannot_be_excluded(made: Made, copied: Path) -> None:
    forge_everywhere(copied)
    said = made.verdict(copied)
    assert said["verdict"] == "ENVIRONMENT" and where(said) == "test, in the metrics (test/accuracy)"
    assert said["causes"] == ["that somebody edited the record, all of its parts alike, cannot be excluded"]


def test_a_sibling_under_another_name_is_not_of_these_inputs(made: Made, copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    run, other = copied, made.train("seed=1")
    for name in ("trace.jsonl", "history.csv", "predictions.csv"):
        shutil.copy(other / name, run / name)
    save_file(load_file(other / "model.safetensors"), run / "model.safetensors", {"run": run.name})
    theirs = records.read_record(other)
    reseal(run, lambda record: record.update(outputs=theirs["outputs"], observed=theirs["observed"]))
    said = made.verdict(run)
    digits, others = (each.name.rpartition("-")[2] for each in (run, other))
    assert said["verdict"] == "TAMPERED"
    assert f"a run whose inputs have the hash {others}, but those of the record have {digits}" in said["causes"][0]

    rewrite(run, lambda rows: [row.update(inputs=digits) for row in rows if "inputs" in row])
    said = made.verdict(run)
    assert said["verdict"] == "ENVIRONMENT" and where(said).startswith("step 0, in the weights")
    assert said["causes"][0].startswith("the initial weights, which follow from seed, code and packages alone")
    assert "this record is not of these inputs" in said["causes"][0] and "cannot be excluded" in said["causes"][1]
