"""The report: what it shows, what it refuses, and that the same results give the same bytes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from .conftest import Compose
from .project import ROOT, UserError, module

reports = module("samebits.report.report")
runs = module("samebits.report.runs")
CONTRACT = module("samebits.engine.inputs").CONTRACT
repeats, read_settings = reports.repeats, reports.read_settings
tables = module("samebits.report.tables")
CONTRACT = module("samebits.engine.inputs").CONTRACT
SETTINGS = ROOT / "configs/report.yaml"


@pytest.fixture(scope="module")
def results(settings: Compose, workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two seeds of one experiment and three of another, one of them cut off, and return the folder of all."""
    root = tmp_path_factory.mktemp("results")
    (root / "data").mkdir()
    shutil.copytree(workspace / "data/processed", root / "data/processed")
    (root / "CITATION.cff").write_text(
        'title: "A <script>alert(1)</script> & title"\nlicense: MIT\nauthors: [{name: Ann}]\n'
    )
    (root / "pyproject.toml").write_text('[project]\nname = "digits"\nlicense = "MIT"\n')
    models = f"paths.models='{root}/models'"
    for seed in (0, 1):
        main = f"publish='{root}/models/main'" if seed == 0 else "publish=null"
        module("dummy.train").train(settings(f"seed={seed}", "run_name='a-seed=${seed}'", models, main))
    for seed in (0, 1, 5):
        module("dummy.train").train(
            settings(f"seed={seed}", "run_name='b-seed=${seed}'", "model.optimizer.lr=0.01", models)
        )
    module("dummy.train").train(settings("run_name=debug-x", "model.optimizer.lr=0.1", models))
    cut = next((root / "models").glob("b-seed=5-*"))
    (cut / "metrics.json").unlink()
    record = json.loads((cut / "record.json").read_text())
    seen = record["observed"]
    record["observed"] = {"status": "running", "started": seen["started"]}
    module("samebits.engine.record").write_record(
        cut, {key: record[key] for key in ("run", "inputs", "source", "observed")}
    )
    (cut / "compute.json").write_text(json.dumps({"starts": 1, "wall_seconds": 7200.0, "cpu_seconds": 3600.0}))
    return root


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    """Return a copy that may be spoilt."""
    return Path(shutil.copytree(results, tmp_path / "copy"))


def write(root: Path, *words: str) -> list[Any]:
    return list(reports.report(root, read_settings(SETTINGS, list(words))))


def written(root: Path) -> dict[str, bytes]:
    folder = root / "reports"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_of_it_is_there_and_true(copy: Path) -> None:
    one, other = write(copy)
    assert (one.name, one.seeds, other.name, other.seeds) == ("a", [0, 1], "b", [0, 1])
    files = written(copy)
    figures = {"seeds", "curve-train-loss", "curve-val-loss", "confusion", "errors", "differences"}
    wanted = {f"figures/{name}.{kind}" for name in figures for kind in ("svg", "png")}
    wanted |= {
        "report.html",
        "results.csv",
        "results.tex",
        "compute.md",
        "compute.svg",
        "checklist.md",
        "model-card.md",
    }
    assert files.keys() == wanted
    page = files["report.html"].decode()
    rows = list(csv.DictReader(files["results.csv"].decode().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]
    for row in rows:
        metrics = json.loads((copy / "models" / row["run"] / "metrics.json").read_text())
        assert float(row["test/accuracy"]) == metrics["test/accuracy"] and row["run"] in page
        assert f"%   {row['run']}: test/accuracy {metrics['test/accuracy']!r}" in files["results.tex"].decode()
    mean = tables.estimate([float(row["test/accuracy"]) for row in rows[:2]])
    assert f"test/accuracy {mean}" in page and str(mean) in files["model-card.md"].decode()
    assert "<script" not in page and "A &lt;script&gt;" in page  # what users write is text
    assert not re.search(
        r'(?:src|href)="(?!data:|https://|results\.|compute\.)', page
    )  # nothing is loaded from elsewhere
    assert "debug-x" not in page
    assert "| not finished | 1 | 2.0 h | 1.0 h |" in files["compute.md"].decode()
    checklist = files["checklist.md"].decode()
    assert checklist.count("**Answer:** ______") == 7 and "Yes." not in checklist and "not finished" in checklist
    assert "## Known limits" not in files["model-card.md"].decode()  # there is no data card here, hence no such section


def test_the_same_results_give_the_same_bytes(copy: Path) -> None:
    write(copy)
    before = written(copy)
    shutil.rmtree(copy / "reports")
    write(copy)
    assert written(copy) == before
    record = copy / "models" / str(runs.published(copy / "models"))
    slower = json.loads((record / "record.json").read_text())
    slower["observed"] |= {"wall_seconds": 99.0, "starts": 3, "ended": "2020-01-01T00:00:00Z"}
    module("samebits.engine.record").write_record(record, slower)
    write(copy)  # as if it had been killed and resumed elsewhere
    changed = {name for name, content in written(copy).items() if content != before[name]}
    assert changed == {"compute.md", "compute.svg", "checklist.md", "model-card.md"}


def swap(copy: Path) -> list[str]:
    one, other = sorted((copy / "models").glob("a-seed=?-*"))
    contents = [(run / "model.safetensors").read_bytes() for run in (one, other)]
    (one / "model.safetensors").write_bytes(contents[1])
    (other / "model.safetensors").write_bytes(contents[0])
    return [
        f"{one.name}: model.safetensors is that of the run {other.name}",
        f"{other.name}: model.safetensors is that of",
    ]


def edit(name: str, old: str, new: str) -> Callable[[Path], list[str]]:
    def spoil(copy: Path) -> list[str]:
        run = next((copy / "models").glob("a-seed=1-*"))
        content = (run / name).read_text()
        assert old in content
        (run / name).write_text(content.replace(old, new, 1))
        return [f"{run.name}: {name}"]

    return spoil


FAULTS = {
    "weights of another run": swap,
    "metrics": edit("metrics.json", '"test/accuracy": 0.', '"test/accuracy": 0.9'),
    "predictions": edit("predictions.csv", "\n0,", "\n10,"),
    "history": edit("history.csv", "val/loss,", "val/loss,1"),
    "settings": edit("config.yaml", "batch_size: 32", "batch_size: 33"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_whose_files_are_not_its_own_is_refused(copy: Path, fault: str) -> None:
    wanted = FAULTS[fault](copy)
    with pytest.raises(UserError) as error:
        write(copy)
    assert all(each in str(error.value) for each in wanted) and "put the right files back" in str(error.value)
    assert not (copy / "reports").exists()


def test_runs_on_other_data_are_left_out_with_a_sentence(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, unfinished = runs.read_runs(copy / "models", ["debug-*"])
    other = changed(found[0], "data")
    found[1].record["source"]["tags"] = ["<paper>"]
    monkeypatch.setattr(reports, "read_runs", lambda *_: ([*found, other], unfinished))
    write(copy)
    page, table = written(copy)["report.html"].decode(), written(copy)["results.csv"].decode()
    sentence = "Left out: 1 run on other data than the main run&#39;s (Optical Recognition"
    assert sentence in page and other.id not in page + table and "is not compared" not in page
    assert "<small>(&lt;paper&gt;)</small>" in page
    write(copy, "other_data=true")  # control
    page = written(copy)["report.html"].decode()
    assert sentence not in page and other.id in page and "on other data than a, so is not compared" in page
    assert len(runs.same_data([other, *found], None)[0]) in (1, len(found))  # those of the newest run


def test_a_card_that_was_mended_is_what_is_shown(copy: Path) -> None:
    """Of the main run's data alone: another data set's card may stand in the same file."""
    write(copy)
    assert b"of the data: as" not in written(copy)["report.html"]  # control
    (copy / "data").mkdir(exist_ok=True)
    (copy / "data/README.md").write_text("| Title | Mended digits |\n")
    write(copy)
    files = written(copy)
    shown = [files[name].count(b"Mended digits") for name in ("report.html", "model-card.md", "checklist.md")]
    assert all(shown) and b"Title of the data: as data/README.md says now" in files["report.html"]
    other, main, *_ = runs.read_runs(copy / "models", [])[0]
    other.record["inputs"]["config"]["data"]["name"] = "others"
    origin = module("samebits.report.documents").data_origin(other, main, copy)
    assert origin["title"].startswith("Optical")
    other.record["inputs"] |= {"origin": {}, "config": {"data": "a/folder"}}  # as of an adopted project
    assert module("samebits.report.documents").data_origin(other, other, copy) == {}


def test_weights_that_are_not_here_are_told(copy: Path) -> None:
    next((copy / "models").glob("a-seed=1-*/model.safetensors")).unlink()
    write(copy)
    assert written(copy)["report.html"].decode().count("not here, so not compared: make pull") == 1


def test_only_what_differs_in_the_seed_alone_is_put_together(copy: Path) -> None:
    run = next((copy / "models").glob("a-seed=1-*"))
    found, _ = runs.read_runs(copy / "models", ["debug-*"])
    other = next(each for each in found if each.directory == run)
    assert runs.same_but_for_seed(found[0], other)
    for part, name in (("code", "train.py"), ("data", "train_labels.npy"), ("lock", "main.txt")):
        changed = json.loads(json.dumps(other.record))
        changed["inputs"][part][name] = "0" * 64
        assert not runs.same_but_for_seed(found[0], runs.FinishedRun(run, changed))
    changed = json.loads(json.dumps(other.record))
    changed["inputs"]["config"]["model"]["network"]["dropout"] = 1  # the seed's value, by chance
    assert not runs.same_but_for_seed(found[0], runs.FinishedRun(run, changed))
    later = runs.FinishedRun(run, changed)
    names = [each.name for each in runs.group([*found, later], None)]
    assert names == ["a", "a dropout=1", "b"]


def test_repeats_that_came_out_otherwise_are_told(copy: Path) -> None:
    run = next((copy / "models").glob("a-seed=1-*"))
    found, _ = runs.read_runs(copy / "models", ["debug-*", "b-*"])
    again = json.loads((run / "record.json").read_text())
    same = runs.FinishedRun(run, again | {"run": f"{again['run']}-2"})
    (experiment,) = runs.group([*found, same], None)
    assert len(experiment.runs) == 2 and "to the same weights, and counted once" in repeats(experiment)[0]
    other = runs.FinishedRun(run, again | {"run": f"{again['run']}-2", "outputs": again["outputs"] | {"weights": "0"}})
    (experiment,) = runs.group([*found, other], None)
    assert "came to other weights: make compare" in repeats(experiment)[0]


def changed(run: Any, *parts: str, weights: str | None = None, seed: int | None = None) -> Any:
    """Return a run as if it had been trained with other inputs of these parts, or with another seed."""
    record = json.loads(json.dumps(run.record))
    inputs, outputs = record["inputs"], record["outputs"]
    for part in parts:
        inputs[part] = inputs[part] + 1 if part == "contract" else inputs[part] | {"other.py": "1" * 64}
    seed = run.seed if seed is None else seed
    inputs["config"]["seed"] = inputs["config"]["data"]["module"]["seed"] = seed
    outputs["weights"] = weights or outputs["weights"]
    record["run"] = f"a-seed={seed}-11111111"
    return runs.FinishedRun(run.directory, record)


@pytest.mark.parametrize("parts", [("code",), ("lock", "contract"), ("outside",), ("library",)])
def test_another_procedure_with_the_same_results_is_the_same_experiment(copy: Path, parts: tuple[str, ...]) -> None:
    found, _ = runs.read_runs(copy / "models", ["debug-*", "b-*"])
    again = changed(found[0], *parts)
    (experiment,) = runs.group([*found, again], None)
    assert experiment.name == "a" and experiment.seeds == [0, 1]
    assert experiment.runs == found and experiment.repeats == [again]
    (remark,) = repeats(experiment)
    assert f"each seed counts once: {again.id}." in remark and "other code or packages than a-seed=0" in remark
    later = changed(found[1], *parts, seed=7)  # a seed that only the other code has trained, beside one of both
    (experiment,) = runs.group([*found, again, later], again.id)
    assert experiment.seeds == [0, 1, 7] and experiment.runs[0] is again  # the main run counts
    assert repeats(experiment)[0].endswith(f"each seed counts once: {found[1].id}, {found[0].id}.")


def test_another_procedure_with_other_results_is_another_experiment(copy: Path) -> None:
    found, _ = runs.read_runs(copy / "models", ["debug-*", "b-*"])

    def names(*more: Any) -> list[str]:
        return [re.sub(":[0-9a-f]{4}$", ":…", each.name) for each in runs.group([*found, *more], None)]

    same, other = changed(found[0], "code"), changed(found[1], "code", weights="0" * 64)
    assert names(same) == ["a"] and names(other) == names(same, other) == ["a", "a code:…"]
    assert names(changed(found[0], "contract", weights="0" * 64)) == ["a", f"a contract:{CONTRACT + 1}"]
    assert names(changed(found[0], "data")) == ["a", "a data:…"]  # equal weights, but of other data
    assert names(changed(found[0], "code", seed=7)) == ["a", "a code:…"]  # no seed in common
    judged = changed(found[0], "code")
    judged.record["outputs"]["metrics"]["test/accuracy"] = 1.0  # equal weights, measured otherwise
    assert names(judged) == ["a", "a code:…"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("metric=test/recall", "metric is 'test/recall', which a-seed=0-.* does not have: choose from"),
        ("baseline=c", "baseline is 'c', but the experiments are 'a', 'b': choose one of them"),
        ("metrik=x", "does not know 'metrik'"),
        ("panels=5", "panels is 5, but must be a group of panels, each with its function as _target_"),
        ("panels.mistakes=5", "panels is .*, but must be a group of panels"),
        ("metrics=test/f1", "metrics is 'test/f1', but must be a list"),
        ("metrics=[test/fff]", "metrics has 'test/fff', which no run has: choose from test/accuracy"),
        ("curves=[train/los]", "curves has 'train/los', which no run has: choose from"),
        ("panels.confusion.classes=[a,b]", "classes has 2 names, but there are 10 labels"),
        (
            "panels.other._target_=dummy.panels.missing",
            r"the panel dummy.panels.missing cannot be loaded \(.*\): correct its name",
        ),
        (
            "panels.other._target_=dummy.nowhere.missing",
            r"the panel dummy.nowhere.missing cannot be loaded \(.*\): correct its name",
        ),
        ("exclude=['*']", r"no finished run to report on but those that configs/report.yaml excludes \(\*\)"),
    ],
)
def test_wrong_settings_are_refused(copy: Path, word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        write(copy, word)


def test_names_are_shown_as_they_are(copy: Path) -> None:
    names = "['$a$','<b>','$','d','e','f','g','h','i','j']"
    write(copy, f"panels.confusion.classes={names}", "panels.mistakes.count=0")
    files = written(copy)
    assert "figures/errors.svg" not in files and b"<!-- $a$ -->" in files["figures/confusion.svg"]


def test_a_curve_ends_with_the_training(copy: Path) -> None:
    """What is measured at the end are the kept weights, often of an earlier step: no point of a curve."""
    for run in runs.read_runs(copy / "models", ["debug-*"])[0]:
        rows = [row for row in runs.read_table(run.directory / "history.csv") if row["metric"] == "val/loss"]
        curve = run.curves["val/loss"]
        assert [*curve.values()] == [float(row["value"]) for row in rows[:-1]] and len(curve) == len(rows) - 1
        assert max(curve) == max(run.curves["train/loss"]) and float(rows[-1]["value"]) == run.metrics["val/loss"]
        assert [*run.curves["test/loss"].values()] == [run.metrics["test/loss"]]


def test_a_package_that_is_missing_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(
        UserError, match=r"^this needs jinja2, not installed here: .*, `pip install 'samebits\[report\]'`\.$"
    ):
        write(copy)


def test_no_runs_and_no_images(copy: Path) -> None:
    (copy / "data/processed/test_images.npy").write_bytes(b"other")
    write(copy)
    assert "figures/errors.svg" not in written(copy) and "make data" in written(copy)["report.html"].decode()
    with pytest.raises(UserError, match="has no finished run to report on: make train"):
        reports.report(copy / "data", OmegaConf.load(SETTINGS))
