"""What may be searched, and what is refused in one sentence before anything is trained or written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .project import UserError, command, compose, module
from .searches import Searches, read_search

config = module("samebits.search.search_config")


@pytest.fixture
def searches(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Searches:
    return Searches(workspace, monkeypatch)


def test_which_overrides_are_the_searchs() -> None:
    given = ["search=wide", "search.trials=3", "model=mlp", "~search.space.a.b", "+search.x=1", "search.sampler={a:1}"]
    sorted_overrides = config.split_overrides([*given, "search.space.a.c.low=1", "searching=2"])
    assert sorted_overrides.options == ["search=wide", "search.trials=3", "+search.x=1"]
    assert sorted_overrides.replacements == ["search.sampler={a:1}"] and sorted_overrides.training == [
        "model=mlp",
        "searching=2",
    ]
    assert sorted_overrides.space == ["~search.space.a.b", "search.space.a.c.low=1"]
    assert config.split_overrides(["seed=1"]).options == ["search=default"]


def test_the_space_is_changed_by_overrides() -> None:
    raw = {"a.b": {"low": 1, "high": 2}, "c": [1]}
    given = ["search.space.a.b.high=1e2", "search.space.a.b.log=true", "~search.space.c", "search.space.d=[x,[1,2]]"]
    assert config.change_space(raw, given) == {"a.b": {"low": 1, "high": 100.0, "log": True}, "d": ["x", [1, 2]]}
    with pytest.raises(UserError, match=r"does not vary e, but a\.b, c"):
        config.change_space(raw, ["~search.space.e"])


@pytest.mark.parametrize(
    "value",
    [1, 1.0, 1e-05, 0.1, True, None, "mlp", "1e3", "true", "a b", 'a"b', "", "a/b.c", [16, 32], {"a": [1, "x y"]}],
)
def test_values_reach_the_training_as_they_are(value: Any) -> None:
    assert config.parse_value("", config.to_hydra(value)) == value
    if value != "":
        cfg = compose([f"+data.module.another={config.to_hydra(value)}"])
        assert cfg.data.module.another == value and type(cfg.data.module.another) in (
            type(value),
            type(cfg.data.module.another),
        )


def test_ranges_and_lists() -> None:
    found = config.read_space({"b": {"low": 1, "high": 9, "step": 4}, "a": {"low": 0.0, "high": 1}, "c": [[1, 2], [3]]})
    assert list(found) == ["a", "b", "c"]  # sorted: the order decides which random number each is given
    assert [type(each.distribution).__name__[:3] for each in found.values()] == ["Flo", "Int", "Cat"]
    assert config.overrides_of(found, {"a": 0.5, "b": 5, "c": "[1,2]"}) == ["a=0.5", "b=5", "c=[1,2]"]
    assert found["a"].round(0.123456) == 0.1235 and found["b"].round(5) == 5
    assert config.read_space({"a": {"low": 0, "high": 0.12344, "log": False}})["a"].round(0.12344) == 0.1234
    assert config.read_space({"a": {"low": 0.0, "high": 0.5, "step": 0.1}})["a"].round(0.1 + 0.2) == 0.3


WRONG = {
    "search.space.model.optimizer.lrr={low:1,high:2}": r"no setting 'model.optimizer.lrr' \(did you mean '[\w.]+\.lr'",
    "search.space.model.optimizer.lr.low=1": r"model\.optimizer\.lr has low=1, which is above high=0\.1",
    "search.space.model.optimizer.lr.low=0": "a logarithmic range begins above 0",
    "search.space.model.optimizer.lr.step=0.1": "both log and step",
    "search.space.model.optimizer.lr=3": "is neither a range nor a list: write {low",
    "search.space.model.optimizer.lr.low=x": "is no number",
    "search.space.model.network.dropout.step=0.2": r"does not come from low=0\.0 to high=0\.5 in steps of 0\.2",
    "search.space.model.network.dropout.high=1.0": r"model\.network\.dropout is 1\.0, but must be",
    "search.space.model=[cnn,rnn]": "model=rnn: there is no such option; choose from cnn, mlp",
    "search.space.seed=[0,1]": "a lucky seed is no better setting",
    "search.space.data.module.num_workers=[0,1]": "which changes no result",
    "model.network.dropout=0.3": "is given for all trainings, but search.space varies it",
    "search.trials=0": "search.trials is 0, but must be a whole number of at least 1",
    "search.trials=x": "search.trials is 'x', but must be a whole number",
    "search.metric=test/accuracy": "what is chosen by the test data is no longer measured by them",
    "search.direction=min": "must be minimize or maximize",
    "search.seed=-1": "search.seed is -1",
    "search.name='a b'": "search.name is 'a b', but must be a word",
    "search.sampler._target_=optuna.samplers.TPE": "the settings under search.sampler do not work",
    "search.sampler={_target_:optuna.pruners.NopPruner}": "makes no sampler of Optuna",
    "search.pruner.n_startup=1": "there is no setting 'search.pruner.n_startup'",
    "+search.pruner.x=1": "the settings under search.pruner do not work",
    "+search.trial=3": r"there is no setting search\.trial \(did you mean 'trials'",
    "search=wide": "there is no such option; choose from default",
    "force=true": "makes no sense for every training",
    "trainer.max_epochs=0": "trainer.max_epochs is 0",
    "seed=0,1": "seed=0,1 names several values, but all trainings share one",
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_settings_are_refused(searches: Searches, tmp_path: Path, word: str) -> None:
    given = searches.words(tmp_path, word)
    if word.startswith(("trainer", "search.trials")):
        given = [each for each in given if not each.startswith(word.partition("=")[0]) or each == word]
    with pytest.raises(UserError, match=WRONG[word]):
        read_search(given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("oracle://me:pw@host/db", r"search.storage is oracle://\*\*\*@host/db, but may be of sqlite, postgresql"),
        ("sqlite://", "names no file"),
        ("sqlite:////proc/no/search.db", "cannot be opened"),
        ("postgresql+nodriver://me:pw@host/db", "whose driver is not installed"),
    ],
)
def test_storages_that_cannot_be_are_refused(searches: Searches, tmp_path: Path, address: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        searches.study(tmp_path, f"search.storage='{address}'")
    assert "pw" not in str(error.value)


def test_a_missing_package_is_one_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"^this needs optuna, not .*, `pip install 'samebits\[search\]'`"):
        module("samebits.search.search").search([])


def test_the_files_of_a_released_library_are_no_part_of_a_search(searches: Searches, tmp_path: Path) -> None:
    study = searches.study(tmp_path)
    released = {key: value for key, value in study.inputs.items() if key != "library"}
    described = module("samebits.search.study").describe(study.search, released)
    assert described.keys() == {"search", "config", "code", "lock", "data", "contract"}


def test_a_metric_is_known_from_runs(searches: Searches, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(json.dumps({"val/loss": 1.0, "val/f1": 0.5, "test/loss": 1.0}))
    with pytest.raises(
        UserError, match=r"'val/los', which no run has \(did you mean 'val/loss'\?\): choose from val/loss"
    ):
        read_search(searches.words(tmp_path, "search.metric=val/los"))
    read_search(searches.words(tmp_path, "search.metric=val/f1"))


def test_a_training_knows_nothing_of_searches() -> None:
    done = command("train", "search=default")
    assert done.returncode == 2 and "make search" in done.stderr and "Traceback" not in done.stderr


def test_the_wrong_word_on_the_command_line_is_one_sentence() -> None:
    done = command("search", "search.trials=0")
    assert done.returncode == 2 and done.stderr.startswith("error: search.trials is 0") and not done.stdout
    assert done.stderr.count("\n") == 1
