"""The page of a search, and what becomes of its runs in the report."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .project import ROOT, module
from .searches import Searches

searches_in_report = module("samebits.report.report")
results = module("samebits.search.results")
Experiment = module("samebits.report.runs").Experiment
FinishedRun = module("samebits.report.runs").FinishedRun


@pytest.fixture
def searches(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(workspace, monkeypatch)


@pytest.fixture
def about() -> Any:
    read_project = module("samebits.report.documents").read_project
    return read_project(Path(__file__).parents[1])


def test_all_of_it_is_there_and_the_same_bytes(searches: Searches, about: Any, tmp_path: Path) -> None:
    searches.pretend(fails=lambda cfg: cfg.data.module.batch_size == 64)
    found = searches.run(tmp_path / "models", "search.trials=14", "search.pruner.n_startup_trials=6")
    page = results.write_search_page(tmp_path, found, about)
    folder = tmp_path / "reports"
    before = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names = {"history", "importances", "setting-1", "setting-2", "setting-3"}
    figures = {f"search/{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert before.keys() == figures | {"search.html", "search.csv"}
    text = page.read_text()
    assert f"{found.search.options.metric} {found.best.value:.4f}" in text and "Reproducible: one worker" in text
    assert not re.search(r'(?:src|href)="(?!data:|https://|search\.csv|\.\./models/)', text) and "<script" not in text
    rows = list(csv.DictReader((folder / "search.csv").read_text().splitlines()))
    for row, trial in zip(rows, found.trials, strict=True):
        assert row["state"] == trial.status and trial.run in text and row["run"] == trial.run
        assert row["val/loss"] == ("" if trial.value is None else repr(trial.value))
    assert {"finished", "failed"} <= {row["state"] for row in rows} and "it was made to fail" in text
    shutil.rmtree(folder)
    results.write_search_page(tmp_path, found, about)
    assert {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    } == before


def test_few_trials_and_none(searches: Searches, about: Any, tmp_path: Path) -> None:
    few = searches.run(tmp_path / "few", "search.trials=2", "search.name=few")
    page = results.write_search_page(tmp_path, few, about)
    assert page.name == "search-few.html" and "is shown from 8 finished trials" in page.read_text()
    searches.pretend(fails=lambda cfg: True)
    none = searches.run(tmp_path / "none", "search.trials=2")
    text = results.write_search_page(tmp_path, none, about).read_text()
    assert "no training has come to its end yet" in text and "2 failed" in results.conclusion(none)
    assert "<img" not in text


def test_the_best_settings_can_be_kept(searches: Searches, tmp_path: Path) -> None:
    found = searches.run(
        tmp_path, "search.trials=3", "search.space.model=[mlp]", "data.module.shift=2", "determinism=off"
    )
    kept = results.experiment_yaml(found, found.best)
    assert (
        kept.startswith("# @package _global_\ndefaults:\n- override /determinism: 'off'\n- override /model: mlp\n")
        and "paths" not in kept
    )
    file = ROOT / "configs" / "experiment/kept-by-a-test.yaml"
    try:
        file.write_text(kept)
        cfg = module("samebits.engine.config").compose(["experiment=kept-by-a-test"])
    finally:
        file.unlink()
    assert cfg.data.module.shift == 2 and cfg.model_name == "mlp" and cfg.trainer.max_epochs == 6
    assert not cfg.determinism.enabled
    assert cfg.model.optimizer.lr == found.best.settings["model.optimizer.lr"]


def test_trials_are_candidates_and_not_results(tmp_path: Path) -> None:
    def run(name: str) -> Any:
        return FinishedRun(tmp_path / name, {"run": name})

    (tmp_path / "search-b.csv").write_text("trial,run\n0,t1\n1,t2\n2,t3\n3,\n")
    tried = searches_in_report.runs_of_searches(tmp_path)
    assert tried == dict.fromkeys(("t1", "t2", "t3"), "search-b")
    main, best = Experiment([run("m")], "main"), Experiment([run("t1"), run("s1")], "best")
    two, three = Experiment([run("t2")], "two"), Experiment([run("t3")], "three")
    (gathered,) = searches_in_report.candidates([main, best, two, three], tried, "m", None)
    assert gathered.name == "tried in search-b" and [each.id for each in gathered.runs] == ["t2", "t3"]
    (gathered,) = searches_in_report.candidates([main, best, two, three], tried, "t2", "main")
    assert [each.id for each in gathered.runs] == ["t3"]  # t2 is the main run
    assert not searches_in_report.candidates([main, three], tried, "m", "three")  # the baseline
    assert not searches_in_report.candidates([two, three], tried, None, None)  # nothing else would be left
