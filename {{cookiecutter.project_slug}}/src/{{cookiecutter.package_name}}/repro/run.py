"""A run's directory: named after its inputs, finished once, never overwritten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from . import record
from .files import write_atomically
from .hashing import present_sha256
from .inputs import RUN_PATH, inputs_id, portable_config
from .lock import only_process
from .ranks import is_first
from .record import CONFIG, HISTORY, METRICS, PREDICTIONS, RECORD, WEIGHTS
from .source import PATCH
from .traces import TRACE

PUBLISHED = (WEIGHTS, CONFIG, METRICS, TRACE, PREDICTIONS, HISTORY, PATCH, RECORD)
OF_THE_TRAINING = (HISTORY, PATCH, RECORD)  # the same result, trained elsewhere, may have other ones


@dataclass(frozen=True)
class Run:
    """One training and its directory `models/<readable name>-<hash of the inputs>`."""

    directory: Path
    inputs: dict[str, Any]

    @property
    def id(self) -> str:
        """The name of the directory, by which weights lead back to it."""
        return self.directory.name

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: metrics.json is written last."""
        return (self.directory / METRICS).exists()

    @property
    def record(self) -> record.Record:
        """The record as it is; empty before the run has begun."""
        path = self.directory / RECORD
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of a finished run."""
        metrics: dict[str, float] = json.loads((self.directory / METRICS).read_text())
        return metrics

    @property
    def weights_digest(self) -> str:
        """The sha256 of a finished run's weights, by content."""
        return str(self.record["outputs"]["weights"])

    def lock(self) -> AbstractContextManager[None]:
        """Keep other trainings out of the directory for a while; a finished run needs no keeping.

        Of several processes of one training, the first one does so.
        """
        if self.finished or not is_first():
            return nullcontext()
        return only_process(self.directory.parent / ".locks" / self.id, self.directory)

    def start(self, cfg: DictConfig, describe_source: Callable[[], dict[str, Any]], now: str) -> None:
        """Make the directory; write config.yaml, from which the run can be started again as it was, and the record.

        Args:
            cfg: the composed configuration.
            describe_source: says in which state the code is; called when the directory is there.
            now: the time.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = portable_config(cfg)
        settings.force, settings.publish = False, None  # wishes of this one command, not settings of the run
        text = OmegaConf.to_yaml(settings).replace(f"run: {RUN_PATH}\n", "run: ???\n").replace(RUN_PATH, "${paths.run}")
        write_atomically(self.directory / CONFIG, f"# {self.id}\n{text}".encode())
        began = self.record.get("observed", {}).get("started", now)  # by an earlier start of the same run
        started = {"run": self.id, "inputs": self.inputs, "source": describe_source()}
        record.write(self.directory, started | {"observed": {"status": "running", "started": began}})

    def finish(self, metrics: dict[str, float], outputs: dict[str, Any], **parts: dict[str, Any]) -> None:
        """Write the record and, as the last file, metrics.json: exact floats.

        Args:
            metrics: of the weights.
            outputs: from `record.outputs`.
            parts: more of the record's; they are added to what is there.
        """
        finished = self.record | {"outputs": outputs}
        for name, part in parts.items():
            finished[name] = finished.get(name, {}) | part
        record.write(self.directory, finished)
        write_metrics(self.directory / METRICS, metrics)

    def outdated(self, root: Path) -> list[str]:
        """List the files outside of the package that the run had loaded, and that are not what they were."""
        known = self.record.get("inputs", {}).get("outside", {})
        return [name for name, sha256 in present_sha256(root, known).items() if sha256 != known[name]]

    def publish(self, target: Path) -> None:
        """Copy what others build on to a directory of a fixed name: the same bytes for the same inputs.

        A record that is there and tells of the same result stays, with the verdicts on it.
        """
        target.mkdir(parents=True, exist_ok=True)
        there = Run(target, {}).record
        same = bool(there) and record.same_result(there, self.record)
        for name in PUBLISHED:
            if (self.directory / name).exists():
                if not same or name not in OF_THE_TRAINING:
                    write_atomically(target / name, (self.directory / name).read_bytes())
            elif not same:
                (target / name).unlink(missing_ok=True)


def names_by_inputs(models: Path) -> dict[str, str]:
    """List the directories of runs, each by the hash of its inputs; of several, the first by name."""
    names = [path.name for path in models.glob("*-*")]
    return {name.rpartition("-")[2]: name for name in sorted(names, reverse=True)}


def find_run(
    models: Path,
    name: str,
    inputs: dict[str, Any],
    root: Path,
    fresh: bool = False,
    list_names: Callable[[Path], dict[str, str]] = names_by_inputs,
) -> Run:
    """Find the directory that belongs to these inputs, whether it exists or not.

    Args:
        models: the folder of all runs.
        name: the readable part of the directory's name.
        inputs: from `inputs.collect`.
        root: the project's folder.
        fresh: take a directory beside the finished ones: `...-2`, `...-3`.
        list_names: lists the folder; another one, where it is asked for many times.
    """
    digits = inputs_id(inputs)
    run_id = f"{re.sub(r'[^A-Za-z0-9_=.,+-]', '_', name)}-{digits}"
    if not (models / run_id).exists():  # the same inputs under another readable name?
        run_id = list_names(models).get(digits, run_id)
    run = Run(models / run_id, inputs)
    number = 2
    while run.finished and (fresh or run.outdated(root)):
        run = Run(models / f"{run_id}-{number}", inputs)
        number += 1
    return run


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Write metrics as JSON; floats are written so that they are read back exactly."""
    write_atomically(path, f"{json.dumps(metrics, indent=2)}\n".encode())
