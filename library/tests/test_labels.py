"""What runs are called and labelled with: long names, tags, `${hydra:...}`; and trackers beside the history."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import Logger

from .conftest import Compose
from .cutting import BUSY, Killer, Train
from .project import UserError, command, compose, module

check = module("samebits.engine.config").check
plan = module("samebits.sweep.plan")
record = module("samebits.engine.record")
CHOICE = "run_name=${hydra:runtime.choices.model}-${hydra:job.name}-${seed}"


def test_hydras_own_values_are_the_same_in_notebooks_and_sweeps() -> None:
    assert compose([CHOICE, "model=mlp"]).run_name == "mlp-train-0"
    assert "hydra" not in compose([CHOICE])
    combinations = plan.combine([CHOICE, "model=cnn,mlp", "seed=1,2"])
    names = [cfg.run_name for cfg in plan.compose_runs([each.overrides for each in combinations])]
    assert names == ["cnn-train-1", "cnn-train-2", "mlp-train-1", "mlp-train-2"]
    several = plan.combine([f"{CHOICE},plain"])  # Hydra escapes what it varies
    assert [cfg.run_name for cfg in plan.compose_runs([each.overrides for each in several])] == ["cnn-train-0", "plain"]
    plain = plan.compose_runs([["seed=3"]])[0]  # control: the way that asks Hydra nothing
    assert plain == compose(["seed=3"])


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("sweep", "run_name=${hydra:job.id}", "error: run_name"),  # which only a cluster's job has
        ("sweep", "run_name=${hydra:nothing.at.all}", "error: run_name"),
        ("train", "run_name=${nothing}", "run_name cannot be read from the configuration: Interpolation key 'nothing'"),
        ("train", "model=glob(*)", "model=glob(*) names several values: for one run each, write -m model=glob(*)"),
        ("train", "+seed=3", "seed is there already, so there is nothing to add: write seed=<value>, without the +."),
        ("train", "tags=paper", "tags is 'paper', but must be words in brackets, [a,b]"),
    ],
)
def test_what_has_no_value_is_refused_in_a_sentence(verb: str, word: str, said: str) -> None:
    done = command(verb, word)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_long_name_is_shortened_in_its_middle(tmp_path: Path) -> None:
    inputs = {"config": {}, "code": {}, "lock": {}, "data": {}, "contract": 0}

    def name(readable: Any) -> str:
        return str(record.find_run(tmp_path, readable, inputs, tmp_path).id)

    for length in (201, 260, 5000):
        found = name(f"begin{'x' * (length - 11)}seed=1")
        assert len(found) < 255 - len("-99.lock") and found.startswith("beginxxx") and "xxxseed=1-" in found
        (tmp_path / found).mkdir()  # the file system takes it
        (tmp_path / found).rmdir()
    assert name("y" * 200).startswith("y" * 200 + "-") and name(2024).startswith("2024-")  # control: as they are
    with pytest.raises(UserError, match="run_name is None, but must be a name"):
        check(compose(["run_name=null"]))


def test_tags_are_recorded_and_rename_nothing(
    settings: Compose, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = module("dummy.train").train
    models = f"paths.models='{tmp_path}'"
    train(settings("+tags=[baseline,2024,two words]", models))
    (run,) = (path.parent for path in tmp_path.glob("*/record.json"))
    assert run.name == trained.name
    found = record.read_finished(run)
    assert found["source"]["tags"] == ["baseline", "2024", "two words"] and "tags" not in found["inputs"]["config"]
    assert ("tags", "baseline, 2024, two words") in module("samebits.verify.comparison").describe(run, found)
    assert "tags" not in record.read_finished(trained)["source"]
    train(settings("tags=[other]", models))
    assert "It keeps the tags with which it was trained" in capsys.readouterr().out
    assert record.read_finished(run) == found


def test_a_command_is_printed_so_that_it_can_be_typed() -> None:
    def printed(*words: str) -> str:
        return str(record.command({"run": "r", "source": {"overrides": list(words)}}))

    assert printed("seed=3", "tags=[a,b]") == "make train ARGS='seed=3 tags=[a,b]'"
    assert printed("tags=[a,b c]") == """make train ARGS='"tags=[a,b c]"'"""
    assert printed("run_name=${seed}") == "make train ARGS=models/r/config.yaml"


class Points(Logger):
    """Keeps what was logged to it, of each start apart."""

    name, version = "points", ""
    starts: list[list[tuple[int, str, float]]] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.starts.append([])

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.starts[-1] += [(step or 0, name, float(value)) for name, value in metrics.items() if name != "epoch"]


def test_after_a_resume_a_tracker_has_every_point_once(train: Train) -> None:
    tracked = (*BUSY, "+logger.points._target_=tests.test_labels.Points")
    run, _ = train("tracked", Killer("on_train_batch_end", 14), overrides=tracked)
    run, _ = train("tracked", overrides=tracked)
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    wanted = sorted((int(row["step"]), row["metric"], float(row["value"])) for row in rows)
    first, second = (sorted(points) for points in module("tests.test_labels").Points.starts)
    assert second == wanted
    assert len(first) < len(wanted) and {step for step, *_ in first} & {step for step, *_ in second}  # control


class Stubborn:
    """An object that answers every name in its own way, as those of W&B do."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


def test_generators_are_found_beside_objects_that_refuse_to_be_asked() -> None:
    generator = random.Random(1)
    find = module("samebits.engine.randomness").find_generators
    assert find([Stubborn(), generator]) == find([generator.random]) == [generator]
    assert json.dumps(find([Stubborn()])) == "[]"  # control
