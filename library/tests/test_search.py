"""A search: the same trials each time with one worker, whatever happens to it; none lost or doubled with several."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .project import ROOT, UserError, command, module
from .searches import MadeUp, Searches, facts


@pytest.fixture
def searches(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(workspace, monkeypatch)


TrainingCommand = module("samebits.sweep.plan").TrainingCommand
SAMPLERS = {
    "TPE": ("search.sampler.n_startup_trials=3",),
    "Sobol": ("search.sampler={_target_:optuna.samplers.QMCSampler,seed:3}",),
}
PRUNERS = {
    "median": ("search.pruner.n_startup_trials=2", "search.pruner.n_warmup_steps=2"),
    "halving": ("search.pruner={_target_:optuna.pruners.SuccessiveHalvingPruner}",),
    "none": ("search.pruner=null",),
}


@pytest.mark.parametrize(("sampler", "pruner"), [("TPE", "median"), ("TPE", "halving"), ("Sobol", "none")])
def test_one_worker_makes_the_same_trials_each_time(
    searches: Searches, tmp_path: Path, sampler: str, pruner: str
) -> None:
    """And however fast they are read: slow trainings, and such as were over before anybody looked."""
    words = (*SAMPLERS[sampler], *PRUNERS[pruner])
    first = searches.run(tmp_path / "a", *words)
    assert len(first.trials) == 8 and first.best and not first.concurrent
    assert bool(first.count("pruned")) == (pruner != "none")
    searches.pretend(pause=0.02)
    assert facts(searches.run(tmp_path / "b", *words)) == facts(first)
    other = searches.run(tmp_path / "c", *(word.replace("seed:3", "seed:4") for word in words), "search.seed=1")
    assert [each.settings for each in other.trials] != [each.settings for each in first.trials]


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_cut_off_search_goes_on_to_the_same_trials(searches: Searches, tmp_path: Path, pruner: str) -> None:
    """Cut off again and again: before a training, in it, and between the last decision and its being written down."""
    alone = searches.run(tmp_path / "alone", *PRUNERS[pruner])
    models = tmp_path / "cut off"
    for turn in range(4):
        study = searches.study(models, *PRUNERS[pruner], "search.trials=6")
        search = module("samebits.search.search")
        for _ in range(turn % 3):
            search.Workers(study, 1, models / "logs")._train(claim := study.claim())
            study.release(claim)
        claim = study.claim()
        before = len(study.trials())
        if turn % 2:  # trained and looked at, but not concluded
            command = TrainingCommand("", claim.overrides, models)
            job = MadeUp(f"trial {claim.trial.number}", command, None)
            job.run(lambda: False)
            search.PruningWatch(study, claim).look()
        study.release(claim)  # as the system does for a process that is killed
        assert len(study.trials()) == before
    assert facts(searches.run(models, *PRUNERS[pruner])) == facts(alone)


CLAIM = """
import sys
from samebits.search.search_config import read_search
from samebits.search.study import Study
claim = Study(read_search(sys.argv[1:])).claim()
print(claim.trial.number, flush=True)
sys.stdin.read()
"""


def test_trials_of_living_workers_are_not_taken_and_those_of_dead_ones_are(searches: Searches, tmp_path: Path) -> None:
    words = searches.words(tmp_path)
    arguments = [sys.executable, "-c", CLAIM, *words]
    with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "0\n"
        study = searches.study(tmp_path)
        other = study.claim()
        assert other.trial.number == 1 and other.trial.user_attrs["beside"] == [0]
        study.release(other)
        process.send_signal(signal.SIGKILL)
    first = study.claim()
    assert (first.trial.number, first.trial.params) == (0, study.trials()[0].params)
    assert first.run.id == first.trial.user_attrs["run"] and len(study.trials()) == 2
    assert study.claim().trial.number == 1  # now that it was let go


def test_a_trial_that_another_worker_ends_while_we_look_is_not_taken(
    searches: Searches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searches.study(tmp_path)
    for end in (lambda trial: study.finish(trial, 1.0, "w"), lambda trial: study.fail(trial, "no")):
        claim = study.claim()
        study.release(claim)
        before = [copy.deepcopy(trial) for trial in study.trials()]
        end(claim.trial)
        with monkeypatch.context() as patch:
            patch.setattr(study, "trials", lambda stale=before: stale)
            other = study.claim()
        assert other.trial.number == claim.trial.number + 1
        study.finish(other.trial, 2.0, "w")
        study.release(other)


def test_a_trial_is_not_ended_before_what_it_has_come_to(searches: Searches, tmp_path: Path) -> None:
    """Its worker was killed at the third validation, and by now there is a better trial, which would end it sooner."""
    study = searches.study(tmp_path, "search.pruner.n_startup_trials=1", "search.pruner.n_warmup_steps=0")
    slow, better = study.claim(), study.claim()
    slow.run.directory.mkdir(parents=True)
    rows = "".join(f"{10 * step},{step},val/loss,{9.0 - step}\n" for step in range(3))
    (slow.run.directory / "history.csv").write_text(f"step,epoch,metric,value\n{rows}")
    watch = module("samebits.search.search").PruningWatch
    assert not watch(study, slow).look()
    for step in range(3):
        study.report(better.trial, step, 0.1, {})
    study.finish(better.trial, 0.1, "w")
    study.release(slow)
    again = study.claim()
    assert again.trial.number == slow.trial.number
    taken = watch(study, again)
    assert taken.look() and taken.values == list(again.trial.intermediate_values.values()) == [9.0, 8.0, 7.0]
    control = watch(study, slow)  # as if it had just begun
    assert control.look() and control.values == [9.0]


def test_a_trial_is_in_the_table_before_it_is_trained(searches: Searches, tmp_path: Path) -> None:
    """So `make report` takes none for a result, also while the search runs."""
    study, reports = searches.study(tmp_path, "search.trials=2"), tmp_path / "reports"
    report, results = module("samebits.report.report"), module("samebits.search.results")
    seen = []

    def announce() -> None:
        results.write_table(reports, study.results())
        seen.append((len(MadeUp.started), len(report.runs_of_searches(reports))))

    module("samebits.search.search").Workers(study, 1, tmp_path / "logs", announce).run(lambda: None)
    assert seen == [(0, 1), (1, 2)] and [path.name for path in reports.iterdir()] == ["search.csv"]


def test_trials_of_another_folder_are_left_alone(searches: Searches, tmp_path: Path) -> None:
    study = searches.study(tmp_path)
    study.release(study.claim())
    identity = tmp_path / ".locks/folder"
    identity.write_bytes(identity.read_bytes()[::-1])
    assert searches.study(tmp_path).claim().trial.number == 1
    adopting = searches.study(tmp_path, "search.adopt=true")
    assert adopting.claim().trial.number == 0


def test_several_workers_lose_and_double_none(searches: Searches, tmp_path: Path) -> None:
    searches.pretend(pause=0.01)
    found = searches.run(tmp_path, workers=4)
    assert [each.number for each in found.trials] == list(range(8)) and sorted(MadeUp.started) == list(range(8))
    assert found.count("finished") + found.count("pruned") == 8 and found.concurrent
    assert all(each.overrides == found.search.training(each.settings)[-3:] for each in found.trials)
    again = searches.run(tmp_path, workers=4)  # nothing is left to do
    assert facts(again) == facts(found) and len(MadeUp.started) == 8
    more = searches.run(tmp_path, "search.trials=10")
    assert facts(more)[:8] == facts(found) and len(more.trials) == 10 and more.concurrent


def test_what_failed_is_noted_and_tried_again_by_the_next_start(searches: Searches, tmp_path: Path) -> None:
    searches.pretend(fails=lambda cfg: cfg.data.module.batch_size == 32)
    found = searches.run(tmp_path)
    failed = [each for each in found.trials if each.status == "failed"]
    assert failed and len(found.trials) == 8 and len(MadeUp.started) == 8  # each once
    assert all(
        each.reason == "it was made to fail" and each.settings["data.module.batch_size"] == 32 for each in failed
    )
    searches.pretend()
    again = searches.run(tmp_path)
    assert not again.count("failed") and MadeUp.started == [each.number for each in failed]
    assert [each.settings for each in again.trials] == [each.settings for each in found.trials]


def test_another_search_is_not_taken_for_this_one(searches: Searches, tmp_path: Path) -> None:
    study = searches.study(tmp_path)
    study.release(study.claim())
    held = searches.study(tmp_path, "search.seed=1")  # nothing of the first was answered: it is begun anew
    assert not held.trials()
    searches.run(tmp_path, "search.seed=1", "search.trials=1")
    for word, name in {
        "search.seed=2": "search.seed",
        "search.direction=maximize": "search.direction",
        "search.space.model.optimizer.lr.high=1": "search.space.model.optimizer.lr",
        "model=mlp": "config.model",
        "search.pruner=null": "search.pruner",
    }.items():
        with pytest.raises(UserError, match=rf"begun with other settings \(.*{name}.*\): give search.name=<another>"):
            searches.study(tmp_path, *{"search.seed=1": 0, word: 0})
    searches.study(tmp_path, "search.seed=1", "search.trials=2", "data.module.num_workers=1")  # changes no result
    searches.study(tmp_path, "search.name=other", "model=mlp")


def test_real_trainings(workspace: Path, tmp_path: Path) -> None:
    """What is trained already is taken as it is; a second start does nothing; a metric that is not there is told."""
    words = [f"paths.root='{workspace}'", f"paths.models='{tmp_path}'", "debug=fast", "snapshot=false"]
    mine = ["search.trials=3", *[f"~search.space.{key}" for key in ("model.optimizer.lr", "data.module.batch_size")]]
    mine += ["search.space.model.network.dropout=[0.1]"]
    trained = command("train", *words, "model.network.dropout=0.1")
    assert trained.returncode == 0, trained.stderr
    (run,) = (path.parent for path in tmp_path.glob("*/metrics.json"))
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    wrong = command("search", *words, *mine, "search.metric=val/recall")
    assert wrong.returncode == 2 and "which no run has: choose from val/loss, val/accuracy" in wrong.stderr
    done = command("search", *words, *mine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 trials: 3 finished" in done.stdout and "Reproducible: one worker" in done.stdout
    value = json.loads((run / "metrics.json").read_text())["val/loss"]
    assert f"Best: trial 0, val/loss {value:.4f}" in done.stdout and run.name in done.stdout
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    assert (workspace / "reports/search.html").exists()
