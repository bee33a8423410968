"""Folds: which samples each has, that they are ordinary runs on the same data, and what the report makes of them."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import open_dict
from sklearn.model_selection import TimeSeriesSplit

import samebits

from .conftest import Compose
from .cutting import Killer
from .project import ROOT, UserError, command, compose, module

inputs = module("samebits.engine.inputs")
plan = module("samebits.sweep.plan")
reports = module("samebits.report.report")
tables = module("samebits.report.tables")

RANDOM = np.random.RandomState(0)
LABELS = RANDOM.choice(4, 500, p=[0.5, 0.3, 0.15, 0.05])
GROUPS = RANDOM.choice([f"patient {number}" for number in range(40)], 500)
TIMES = RANDOM.permutation(np.datetime64("2020-01-01") + np.arange(500))
Split = dict[str, np.ndarray]


def split(values: Any, by: str, count: int = 5, **more: Any) -> list[Split]:
    return [samebits.fold_indices({"count": count, "fold": fold, "by": by, **more}, values) for fold in range(count)]


def shares(folds: list[Split], part: str) -> np.ndarray:
    """Return how many samples of each label are in each fold: (folds, labels)."""
    return np.array([np.bincount(LABELS[fold[part]], minlength=4) for fold in folds])


def shared_groups(folds: list[Split]) -> int:
    return sum(
        len({*GROUPS[one[a]]} & {*GROUPS[one[b]]}) for one in folds for a, b in (("train", "val"), ("val", "test"))
    )


def late(folds: list[Split]) -> int:
    """Count the folds that learn from something later than what they are measured on."""
    return sum(
        TIMES[one["train"]].max() >= TIMES[one["val"]].min() or TIMES[one["val"]].max() >= TIMES[one["test"]].min()
        for one in folds
    )


WAYS = {"stratified": LABELS, "group": GROUPS, "plain": TIMES}


@pytest.mark.parametrize("by", WAYS)
def test_each_sample_is_tested_once_and_in_one_split(by: str) -> None:
    folds = split(WAYS[by], by, val=0.1)
    assert sorted(np.concatenate([each["test"] for each in folds])) == list(range(500))
    for each in folds:
        assert sorted(np.concatenate(list(each.values()))) == list(range(500))
        assert len(each["val"]) == pytest.approx(50, abs=12 if by == "group" else 1)
        assert len(each["test"]) == pytest.approx(100, abs=3 if by == "group" else 1)
    again, other = split(WAYS[by], by, val=0.1), split(WAYS[by], by, val=0.1, seed=1)
    assert all((one["val"] == two["val"]).all() for one, two in zip(folds, again, strict=True))
    assert any(
        len(one["val"]) != len(two["val"]) or (one["val"] != two["val"]).any()
        for one, two in zip(folds, other, strict=True)
    )


def test_what_a_way_of_splitting_promises_and_the_others_do_not_keep() -> None:
    stratified, group, time, plain = (
        split({**WAYS, "time": TIMES}[by], by) for by in ("stratified", "group", "time", "plain")
    )
    for part in ("test", "val"):
        assert np.ptp(shares(stratified, part), axis=0).max() <= 1 < np.ptp(shares(plain, part), axis=0).max()
    assert shared_groups(group) == 0 < shared_groups(stratified)
    assert late(time) == 0 and late(plain) == 5


def test_by_time_is_that_of_scikit_learn_and_samples_of_one_time_stay_together() -> None:
    ordered = np.arange(503)
    for mine, (rest, test) in zip(split(ordered, "time"), TimeSeriesSplit(5).split(ordered), strict=True):
        assert list(mine["test"]) == list(test) and [*mine["train"], *mine["val"]] == list(rest)
    days = np.repeat(np.arange(50), 7)
    for each in split(days, "time", 3):
        assert not {*days[each["train"]]} & {*days[each["val"]]} and not {*days[each["val"]]} & {*days[each["test"]]}


@pytest.mark.parametrize(
    ("values", "by", "said"),
    [
        ([0] * 20 + [1] * 3, "stratified", "the label 1 has 3 of the samples, too few for 5 folds"),
        (np.linspace(0, 1, 50), "stratified", r"the label 0\.0 has 1 of the samples.* or say data\.folds\.by=plain"),
        (np.zeros((50, 2)), "stratified", r"needs one value a sample, not \(2,\)"),
        (["a", "b"] * 10, "group", "there are 2 groups, too few for 5 folds"),
        ([0] * 20 + [1] * 3, "time", "leaves nothing for train"),
        (range(3), "plain", "leaves nothing for"),
    ],
)
def test_too_few_samples_are_told(values: Any, by: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        split(values, by)


def test_a_validation_that_takes_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"5 folds and data\.folds\.val=0\.8 leave no training data"):
        split(LABELS, "stratified", val=0.8)


def test_a_folds_samples_are_those_of_all_prepared_splits(workspace: Path) -> None:
    arrays = module("dummy.data.datamodule").ArrayDataset
    made = [arrays(workspace / "data/processed", name) for name in ("train", "val", "test")]
    images = np.concatenate([part.images for part in made])
    for by in ("stratified", "plain"):
        folds = {"count": 4, "fold": 1, "by": by}
        dataset = samebits.fold_dataset(folds, "test", lambda name: arrays(workspace / "data/processed", name))
        labels = np.concatenate([part.labels for part in made])
        rows = samebits.fold_indices(folds, labels)["test"]
        order = RANDOM.permutation(len(dataset))
        batch, of_batch = dataset.read_batch(order)
        assert (batch.numpy()[:, 0] * 16 == images[rows[order]]).all() and (
            of_batch.numpy() == labels[rows[order]]
        ).all()
        assert all((dataset[int(index)][0] == batch[place]).all() for place, index in enumerate(order[:9]))
    alone = samebits.fold_dataset({"count": 4, "fold": 1, "by": "plain"}, "val", lambda name: list(range(len(name))))
    assert len(alone) == 1 and not hasattr(alone, "read_batch") and alone[0] in range(5)  # of 5 + 3 + 4
    assert samebits.fold_dataset(None, "val", lambda name: name) == "val"


# --- as runs


SHORT = ("run_name='cv-seed=${seed}'", "data.module.shift=0")
Sweep = Callable[..., Any]


def swept(root: Path, workspace: Path, *words: str) -> Any:
    few = ["debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0", "snapshot=false", *SHORT]
    paths = [f'paths.root="{workspace}"', f'paths.models="{root}/models"']
    return command("sweep", *paths, *few, *words)


@pytest.fixture(scope="module")
def results(settings: Compose, workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the main run, three folds with two seeds, and four of these with another rate."""
    root = tmp_path_factory.mktemp("folds")
    (root / "data").mkdir()
    shutil.copytree(workspace / "data/processed", root / "data/processed")
    (root / "CITATION.cff").write_text("title: A title\nauthors: [{name: Ann}]\n")
    (root / "pyproject.toml").write_text('[project]\nname = "digits"\n')
    models = f"paths.models='{root}/models'"
    train = module("dummy.train").train
    train(settings(*SHORT, models, f"publish='{root}/models/main'"))
    places = [(fold, seed) for fold in range(3) for seed in (0, 1)]
    for rate, chosen in ((0.002, places), (0.01, [places[number] for number in (0, 1, 2, 4)])):
        for fold, seed in chosen:
            folds = ("data.folds.count=3", f"data.folds.fold={fold}")
            train(settings(*SHORT, models, f"model.optimizer.lr={rate}", f"seed={seed}", *folds))
    return root


def records(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((root / "models").glob("cv-*/record.json"))]


def test_folds_are_ordinary_runs_on_the_same_data(results: Path, workspace: Path) -> None:
    found = records(results)
    of_folds = [
        each for each in found if "data" in each["inputs"]["config"] and inputs.fold_of(each["inputs"]["config"])
    ]
    assert len({json.dumps(each["inputs"]["data"]) for each in found}) == 1 and len(of_folds) == 10
    assert {each["run"].rpartition("-")[0] for each in of_folds} == {
        f"cv-seed={seed}-fold={fold}of3" for seed in (0, 1) for fold in range(3)
    }
    first = [each for each in of_folds if each["inputs"]["config"]["model"]["optimizer"]["lr"] != 0.01]
    assert len({each["outputs"]["weights"] for each in first}) == 6  # each has learned from other samples
    for seed in (0, 1):  # every sample is tested once
        tables = [
            (results / "models" / each["run"] / "predictions.csv")
            for each in first
            if each["inputs"]["config"]["seed"] == seed
        ]
        assert sum(len(path.read_text().splitlines()) - 1 for path in tables) == 1797
    done = swept(results, workspace, "--folds", "3", "--seeds", "0..1", "--jobs", "1")
    assert done.stdout.count("was finished") == 6, done.stdout + done.stderr


def test_a_finished_fold_is_measured_on_its_own_samples(results: Path, settings: Compose) -> None:
    run = next((results / "models").glob("cv-seed=1-fold=2of3-*"))
    assert samebits.load(run, results).evaluate() == json.loads((run / "metrics.json").read_text())


def test_without_folds_a_run_is_what_it_was(settings: Compose) -> None:
    cfg, older = settings(), settings()
    with open_dict(older):
        del older.data.folds, older.data.module.folds
    assert inputs.settings_that_count(cfg) == inputs.settings_that_count(older)
    assert inputs.collect(cfg) == inputs.collect(older)
    cfg.data.folds.by, cfg.data.folds.val = "time", 0.3  # of no consequence either
    assert inputs.settings_that_count(cfg) == inputs.settings_that_count(older)
    cfg.data.folds.count, cfg.data.folds.fold = 5, 0  # negative control
    assert inputs.settings_that_count(cfg)["data"]["module"]["folds"]["by"] == "time"


def test_a_fold_that_was_cut_off_goes_on(train: Any) -> None:
    words = (
        "data.folds.count=3",
        "data.folds.fold=1",
        "trainer.limit_train_batches=8",
        "callbacks.resume.every_n_steps=2",
    )
    alone, _ = train("fold alone", overrides=words)
    train("fold cut off", Killer("on_train_batch_end", 5), overrides=words)
    resumed, _ = train("fold cut off", overrides=words)
    assert json.loads((resumed / "record.json").read_text())["observed"]["starts"] == 2
    assert (resumed / "metrics.json").read_bytes() == (alone / "metrics.json").read_bytes()
    assert (resumed / "trace.jsonl").read_bytes() == (alone / "trace.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.folds.count=3", "data.folds.fold=3"], "data.folds.fold is 3, but must be 0 to 2: make sweep FOLDS=3"),
        (["data.folds.count=3"], "data.folds.fold is None, but must be 0 to 2"),
        (["data.folds.fold=1"], "data.folds.fold is 1, but must be null"),
        (
            ["data.folds.count=1", "data.folds.fold=0"],
            "data.folds.count is 1, but must be a whole number of at least 2",
        ),
        (["data.folds.by=month"], "data.folds.by is 'month', but must be stratified, group, time or plain"),
        (["data.folds.count=3", "data.folds.fold=0", "data.module.folds=null"], "data.module is not told of it"),
    ],
)
def test_settings_of_folds_that_cannot_be_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        module("samebits.engine.config").check(compose(words))


@pytest.mark.parametrize("text", ["1", "0", "x", "0..4", "-3", "3.5"])
def test_wrong_numbers_of_folds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no number of folds: write FOLDS=5"):
        plan.folds(text)


def test_folds_by_what_the_data_do_not_have(settings: Compose, tmp_path: Path) -> None:
    for by, column in (("group", "groups"), ("time", "times")):
        words = ("data.folds.count=3", "data.folds.fold=0", f"data.folds.by={by}", f"paths.models='{tmp_path}'")
        with pytest.raises(
            UserError, match=rf"data\.folds\.by={by} needs the {column} of the samples, and ArrayDataset"
        ):
            module("dummy.train").train(settings(*words))
        assert not list(tmp_path.glob("*/metrics.json"))


def test_a_data_module_that_does_not_heed_folds_is_refused(
    settings: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All folds would be the same training, five times."""
    kind = module("dummy.data.datamodule").ArrayDataModule
    arrays = module("dummy.data.datamodule").ArrayDataset
    monkeypatch.setattr(kind, "dataset", lambda self, part, shift=0: arrays(self.directory, part, shift))
    cfg = settings("data.folds.count=7", "data.folds.fold=6", f"paths.models='{tmp_path}'")
    with pytest.raises(UserError, match=r"ArrayDataModule has not made one: let its data sets come from"):
        module("dummy.train").train(cfg)
    assert not list(tmp_path.glob("*/metrics.json"))


# --- in the report


def test_the_interval_over_folds_is_that_of_nadeau_and_bengio() -> None:
    fold = inputs.Fold(0, 5, "stratified", 0)
    values = {(fold._replace(number=number), seed): number + seed / 10 for number in range(5) for seed in (0, 1)}
    over = tables.estimate_of(values)
    spread = statistics.variance([number + 0.05 for number in range(5)])
    assert over.count == 5 and over.mean == pytest.approx(2.05)
    assert over.half == pytest.approx(2.7764451 * ((1 / 5 + 1 / 4) * spread) ** 0.5)  # t with 4 degrees of freedom
    assert over.half > 1.4 * tables.estimate([number + 0.05 for number in range(5)]).half  # negative control: Student's
    assert over.half > 2 * tables.estimate(list(values.values())).half  # and worse, all runs as if independent
    assert tables.overlap_of(fold._replace(by="time")) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert tables.estimate_of({key: value for key, value in values.items() if key[0].number == 0}).half is None


def test_experiments_are_compared_fold_by_fold() -> None:
    fold = inputs.Fold(0, 3, "stratified", 0)
    one = {(fold._replace(number=number), seed): 10.0 * number + seed for number in range(3) for seed in (0, 1)}
    other = {key: value + 0.5 for key, value in one.items() if key[1] == 0}  # a level of folds far above the difference
    stubs = [
        SimpleNamespace(name=name, values=lambda metric, each=each: each) for name, each in (("a", one), ("b", other))
    ]
    compared = tables.compare(*stubs, "loss")
    assert (compared.mean.mean, compared.mean.half, compared.mean.count) == (0.5, 0, 3)
    assert (compared.unit, compared.pairs, compared.meaning) == (
        "fold",
        "3 folds, 3 pairs",
        "the same difference in every fold",
    )
    stubs[1].values = lambda metric: {(key[0]._replace(of=4), key[1]): value for key, value in other.items()}
    assert tables.compare(*stubs, "loss") is None  # other folds are other samples


def written(results: Path, *words: str) -> tuple[str, list[dict[str, str]], list[Any]]:
    found = reports.report(results, reports.read_settings(ROOT / "configs/report.yaml", list(words)))
    with (results / "reports/results.csv").open() as file:
        return (results / "reports/report.html").read_text(), list(csv.DictReader(file)), list(found)


def test_the_report_puts_folds_and_seeds_together(results: Path) -> None:
    page, rows, experiments = written(results)
    extents = {each.name: each.extent for each in experiments}
    other = "cv in 3 folds lr=0.01"
    assert extents == {"cv": "1 seed", "cv in 3 folds": "3 folds, 6 runs", other: "3 folds, 4 runs"}
    mine = [float(row["test/accuracy"]) for row in rows if row["experiment"] == "cv in 3 folds"]
    assert [(row["fold"], row["seed"]) for row in rows if row["experiment"] == other] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("2", "0"),
    ]
    means = [statistics.fmean(mine[first : first + 2]) for first in (0, 2, 4)]
    expected = tables.estimate(means, 1 / 2)
    assert str(expected) in page and "Nadeau and Bengio (2003)" in page
    assert "Against cv in 3 folds, paired by seed and fold" in page and "3 folds, 4 pairs" in page
    assert "cv in 3 folds: fold 0" not in page
    assert (results / "reports/figures/differences.svg").exists()
    page, *_ = written(results, "per_fold=true")
    assert "cv in 3 folds: fold 0" in page and f"{statistics.fmean(mine[:2]):.4f}" in page


def test_folds_that_are_missing_are_told(results: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    for run in (copy / "models").glob("cv-seed=?-fold=1of3-*"):
        shutil.rmtree(run)
    page, _, experiments = written(copy)
    assert experiments[1].extent == "2 of 3 folds, 4 runs"
    assert "cv in 3 folds has 2 of 3 folds, 4 runs: make sweep FOLDS=3 trains what is missing." in page
