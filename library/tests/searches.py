"""Searches for the tests: in folders of their own, with trainings that are made up and take no time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .project import module

read_search = module("samebits.search.search_config").read_search
Study = module("samebits.search.study").Study
search = module("samebits.search.search")
read_results = module("samebits.search.results").read_results
JobStatus = module("samebits.sweep.jobs").JobStatus
Execution = module("samebits.sweep.jobs").Execution


FOLDER = "paths.models="


@cache
def _composed(words: tuple[str, ...]) -> Any:
    return module("samebits.sweep.plan").compose_run(words)


def composed(words: Sequence[str]) -> Any:
    """Compose each training once, wherever it is: this takes most of the time of a search whose trainings take none."""
    cfg = _composed(tuple(word for word in words if not word.startswith(FOLDER))).copy()
    for word in words:
        if word.startswith(FOLDER):
            cfg.paths.models = word.removeprefix(FOLDER).strip("'")
    return cfg


class MadeUp:
    """A training that is over as soon as it is told: a function of its words, as real ones are.

    It takes the place of `Job`; `study`, `pause` (seconds between two epochs) and `fails` are set by `searching`.
    """

    study: Any = None
    pause = 0.0
    fails: Callable[[Any], bool] = staticmethod(lambda cfg: False)
    started: list[int]

    def __init__(self, label: str, command: Any, execution: Any) -> None:
        self.label, self.overrides, self.number = label, command.overrides, int(label.split()[-1])
        self.status, self.skipped, self.reason, self.line, self.done = JobStatus.WAITING, False, "", "", 0.0
        self.results: list[str] = []
        self.seconds, self.stopping, self.execution = 0.0, False, Execution()

    def stop(self) -> None:
        self.stopping = True

    def run(self, stopped: Callable[[], bool]) -> None:
        type(self).started.append(self.number)
        self.status = JobStatus.RUNNING
        with type(self).study.exclusive():  # Hydra composes one at a time
            cfg, run = type(self).study.run_of(self.overrides)
        if self.fails(cfg):
            self.status, self.reason = JobStatus.FAILED, "it was made to fail"
            return
        run.directory.mkdir(parents=True, exist_ok=True)
        lines = ["step,epoch,metric,value"]
        losses = [loss(cfg, epoch) for epoch in range(int(cfg.trainer.max_epochs))]
        for epoch, value in enumerate(losses):
            lines.append(f"{10 * epoch + 9},{epoch},val/loss,{value!r}")
            (run.directory / "history.csv").write_text("\n".join([*lines, ""]))
            time.sleep(self.pause)
            if self.stopping:
                self.status = JobStatus.WAITING
                return
        last = len(losses)
        lines.append(f"{10 * last},{last},val/loss,{min(losses)!r}")  # of the weights that are kept
        (run.directory / "history.csv").write_text("\n".join([*lines, ""]))
        (run.directory / "record.json").write_text(json.dumps({"outputs": {"weights": "w" * 64}}))
        (run.directory / "metrics.json").write_text(json.dumps({"val/loss": min(losses), "test/loss": 1.0}))
        self.status = JobStatus.FINISHED


def loss(cfg: Any, epoch: int) -> float:
    """Make up a loss: least at lr=0.003, without dropout, and late."""
    distance = math.log10(cfg.model.optimizer.lr / 0.003) ** 2
    return float(0.1 + distance + cfg.model.network.dropout**2 + 0.5 / (epoch + 1) * (1 + distance))


class Searches:
    """Makes searches in folders of their own.

    Args:
        workspace: with the data.
        monkeypatch: puts made-up trainings in the place of real ones.
    """

    def __init__(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace, self.monkeypatch = workspace, monkeypatch
        monkeypatch.setattr(search, "Job", MadeUp)
        monkeypatch.setattr(search, "LOOK_SECONDS", 0.005)
        for name in ("samebits.search.search_config", "samebits.search.study"):
            monkeypatch.setattr(module(name), "compose_run", composed)
        self.pretend()

    def pretend(self, pause: float = 0.0, fails: Callable[[Any], bool] = lambda cfg: False) -> None:
        """Set how made-up trainings go."""
        self.monkeypatch.setattr(MadeUp, "pause", pause)
        self.monkeypatch.setattr(MadeUp, "fails", staticmethod(fails))
        self.monkeypatch.setattr(MadeUp, "started", [], raising=False)

    def words(self, models: Path, *words: str) -> list[str]:
        """Make the words of a search in a folder."""
        places = [f"paths.root='{self.workspace}'", f"{FOLDER}'{models}'", "trainer.max_epochs=6"]
        return [*places, "snapshot=false", "search.trials=8", *words]

    def study(self, models: Path, *words: str) -> Any:
        """Open a search."""
        study = Study(read_search(self.words(models, *words)))
        self.monkeypatch.setattr(MadeUp, "study", study)
        return study

    def run(self, models: Path, *words: str, workers: int = 1) -> Any:
        """Start a search, let it end, and return what it has found."""
        study = self.study(models, *words)
        search.Workers(study, workers, models / "logs").run(lambda: None)
        return read_results(study.search, study.trials())


def facts(found: Any) -> list[tuple[Any, ...]]:
    """List what makes trials the same, wherever they were made."""
    return [
        (each.number, each.status, each.value, each.settings, each.validations, each.run, stored.intermediate_values)
        for each, stored in zip(found.trials, found.stored, strict=True)
    ]
