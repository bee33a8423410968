"""predictions.csv follows what `test_step` returns, and panels what predictions.csv holds."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from .project import UserError, module

runs, panels = module("samebits.report.runs"), module("samebits.report.panels")
Panel = module("samebits.report.figures").Panel
draw_panels = module("samebits.report.figures").draw_panels


def write(path: Path, *batches: Any) -> str | None:
    """Write predictions.csv of batches, and return it; None where there is no file."""
    callback = module("samebits").Predictions(str(path))
    trainer: Any = SimpleNamespace(is_global_zero=True)
    callback.on_test_epoch_start(trainer, None)
    for number, batch in enumerate(batches):
        callback.on_test_batch_end(trainer, None, batch, None, number)
    callback.on_test_epoch_end(trainer, None)
    return path.read_text() if path.exists() else None


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


LOSS = 0.6931471824645996  # of two equal scores, log 2 in float32
TASKS: dict[str, tuple[tuple[Any, ...], str]] = {
    "classification": (
        (
            {"scores": torch.zeros(1, 2), "labels": torch.tensor([1]), "loss": torch.tensor(1.0)},
            {"scores": torch.tensor([[0.0, 99.0]]), "labels": torch.tensor([1])},
        ),
        "index,label,predicted,probability\n0,1,0,0.5\n1,1,1,1.0\n",
    ),
    "regression": (
        (
            {"predictions": numbers(0.5, 2), "targets": numbers(1, 2)},
            {"predictions": numbers(3), "targets": numbers(4)},
        ),
        "index,target,predicted\n0,1.0,0.5\n1,2.0,2.0\n2,4.0,3.0\n",
    ),
    "one column as a matrix": (
        ({"predictions": numbers(0.5)[:, None], "targets": numbers(1)},),
        "index,target,predicted\n0,1.0,0.5\n",
    ),
    "two targets": (
        ({"predictions": torch.tensor([[1.0, 2.0]]), "targets": torch.tensor([[3.0, 4.0]])},),
        "index,target_0,predicted_0,target_1,predicted_1\n0,3.0,1.0,4.0,2.0\n",
    ),
    "losses of sequences of several lengths": (
        ({"losses": torch.tensor([[1.0, 2.0]])}, {"losses": torch.tensor([[3.0, torch.nan, 5.0]])}),
        "position,samples,loss\n0,2,2.0\n1,1,2.0\n2,1,5.0\n",
    ),
    "scores of sequences": (
        ({"scores": torch.zeros(2, 3, 2), "labels": torch.tensor([[0, 1, -100], [0, -100, -100]])},),
        f"position,samples,loss\n0,2,{LOSS}\n1,1,{LOSS}\n2,0,nan\n",
    ),
    "other columns": (
        ({"overlap": numbers(0.25, 1), "size": np.array([3, 4]), "loss": torch.tensor(2.0), "names": ["a", "b"]},),
        "index,overlap,size\n0,0.25,3\n1,1.0,4\n",
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_columns_follow_the_task(tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches, wanted = TASKS[task]
    assert write(tmp_path / "predictions.csv", *batches) == wanted
    assert capsys.readouterr().out == ""


UNFIT: dict[str, tuple[tuple[Any, ...], str]] = {
    "nothing": ((None, None), "returned nothing"),
    "a loss": ((torch.tensor(1.0),), "returned a Tensor"),
    "a loss in a dict": (({"loss": torch.tensor(1.0)},), r"a dict of loss \(\)"),
    "images": (({"scores": torch.zeros(2, 3, 4, 4), "labels": torch.zeros(2, 4, 4)},), r"scores \(2, 3, 4, 4\)"),
    "two shapes": (({"predictions": torch.zeros(2), "targets": torch.zeros(2, 2)},), r"targets \(2, 2\)"),
    "as many as there are not": (({"scores": torch.zeros(3, 2), "labels": torch.zeros(2)},), r"labels \(2,\)"),
    "now this, now that": (({"a": torch.zeros(2)}, {"b": torch.zeros(2)}), "now one thing, now another"),
    "then nothing": (({"a": torch.zeros(2)}, None), "now one thing, now another"),
    "no batch": ((), "no test batch"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_fits_no_column_is_said_once(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches, said = UNFIT[case]
    assert write(tmp_path / "predictions.csv", *batches) is None
    output = capsys.readouterr().out
    assert output.count("\n") == 1 and output.startswith("There is no predictions.csv, since ")
    assert re.search(said, output), output


def panel(folder: Path, *tables: str, settings: Any = None) -> Any:
    """Make what a panel is given, for one seed with each of these predictions."""
    found = []
    for seed, text in enumerate(tables):
        run = folder / f"a-seed={seed}"
        run.mkdir()
        (run / "predictions.csv").write_text(text)
        found.append(runs.FinishedRun(run, {"run": run.name, "inputs": {"config": {"seed": seed}, "data": {}}}))
    return Panel(runs.Experiment(found, "a"), found[0], OmegaConf.create({"panels": settings}), folder, folder, [])


def regression(count: int, targets: int = 1) -> str:
    random = np.random.default_rng(0)
    true = random.normal(size=(count, targets))
    ends = [f"_{k}" for k in range(targets)] if targets > 1 else [""]
    names = [f"{part}{end}" for end in ends for part in ("target", "predicted")]
    pairs = np.stack([true, true + 1], axis=2).reshape(count, -1)
    rows = [",".join(map(str, (number, *row))) for number, row in enumerate(pairs.tolist())]
    return "\n".join([",".join(["index", *names]), *rows, ""])


@pytest.mark.parametrize(("count", "targets"), [(50, 1), (3000, 1), (50, 3)])
def test_regressions_are_drawn(tmp_path: Path, count: int, targets: int) -> None:
    given = panel(tmp_path, regression(count, targets), regression(count, targets))
    predicted, rest = panels.predicted_against_true(given), panels.residuals(given)
    assert f"{2 * count:,} test samples (2 seeds)" in predicted.text and "square error 1" in predicted.text
    assert "mean 1, standard deviation" in rest.text and not given.notes
    assert predicted.svg.count(b"<!-- target ") == (targets if targets > 1 else 0)
    assert {path.name for path in tmp_path.glob("*.png")} == {"predicted.png", "residuals.png"}
    assert panels.predicted_against_true(given).svg == predicted.svg  # the same bytes


def test_losses_are_drawn_by_position(tmp_path: Path) -> None:
    table = "position,samples,loss\n" + "".join(f"{place},7,{4 - place / 10}\n" for place in range(20))
    figure = panels.loss_by_position(panel(tmp_path, table))
    assert figure.text == "mean loss of 7 test sequences (1 seed); at the first 4, at the last 2.1"


ALL = ("confusion", "predicted_against_true", "residuals", "loss_by_position")


@pytest.mark.parametrize("table", ["", "index,label,predicted,probability\n", "index,iou\n0,0.5\n"])
def test_a_panel_without_its_columns_says_so(tmp_path: Path, table: str) -> None:
    given = panel(tmp_path, table, settings={name: {"_target_": f"samebits.report.panels.{name}"} for name in ALL})
    assert draw_panels(given) == []
    assert len(given.notes) == 3 and given.notes[0] == (
        "a-seed=0 has no predictions.csv with label, predicted, which a panel would draw."
    )


def test_none_and_a_panel_that_is_left_out(tmp_path: Path) -> None:
    given = panel(
        tmp_path, regression(5), settings={"one": None, "two": {"_target_": "samebits.report.panels.residuals"}}
    )
    assert [figure.name for figure in draw_panels(given)] == ["residuals"]
    for settings in (None, {}):
        given.settings.panels = settings
        assert draw_panels(given) == []


def broken(given: Any, **settings: Any) -> Any:
    return given.rows("target")[0]["label"]


def shapeless(given: Any) -> Any:
    return "a figure"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"_target_": f"{__name__}.broken"}, r"broken failed \(KeyError: 'label', line \d+ of test_predictions.py\)"),
        ({"_target_": f"{__name__}.shapeless"}, "shapeless failed .* returns no figure of panel.save"),
        ({"_target_": "samebits.report.panels.residuals", "kind": 1}, "residuals failed .*unexpected keyword .*'kind'"),
        ({"_target_": "samebits.report.panels.nothing"}, "nothing cannot be loaded"),
    ],
)
def test_a_panel_that_fails_gets_one_sentence(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        draw_panels(panel(tmp_path, regression(5), settings={"own": settings}))
