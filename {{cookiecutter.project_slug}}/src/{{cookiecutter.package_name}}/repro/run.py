"""A run's directory: named after its inputs, finished once, never overwritten."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .files import write_atomically
from .inputs import RUN_PATH, inputs_id, portable_config
from .lock import only_process

PUBLISHED = ("model.safetensors", "config.yaml", "record.json", "metrics.json")


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
        return (self.directory / "metrics.json").exists()

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of a finished run."""
        metrics: dict[str, float] = json.loads((self.directory / "metrics.json").read_text())
        return metrics

    @property
    def weights_digest(self) -> str:
        """The sha256 of a finished run's weights, by content."""
        return str(json.loads((self.directory / "record.json").read_text())["outputs"]["weights"])

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes out of the directory for a while; a finished run needs no keeping."""
        if self.finished:
            return nullcontext()
        return only_process(self.directory.parent / ".locks" / self.id, self.directory)

    def start(self, cfg: DictConfig) -> None:
        """Make the directory and write config.yaml, from which the run can be started again as it was."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = portable_config(cfg)
        settings.force, settings.publish = False, None  # wishes of this one command, not settings of the run
        text = OmegaConf.to_yaml(settings).replace(f"run: {RUN_PATH}\n", "run: ???\n").replace(RUN_PATH, "${paths.run}")
        write_atomically(self.directory / "config.yaml", f"# {self.id}\n{text}".encode())

    def finish(self, metrics: dict[str, float], weights_digest: str) -> None:
        """Write the record and, as the last file, metrics.json: exact floats."""
        record = {"run": self.id, "inputs": self.inputs, "outputs": {"weights": weights_digest, "metrics": metrics}}
        write_atomically(self.directory / "record.json", f"{json.dumps(record, indent=2)}\n".encode())
        write_metrics(self.directory / "metrics.json", metrics)

    def publish(self, target: Path) -> None:
        """Copy what others build on, the same bytes for the same inputs, to a directory of a fixed name."""
        target.mkdir(parents=True, exist_ok=True)
        for name in PUBLISHED:
            write_atomically(target / name, (self.directory / name).read_bytes())


def find_run(models: Path, name: str, inputs: dict[str, Any], fresh: bool = False) -> Run:
    """Find the directory that belongs to these inputs, whether it exists or not.

    Args:
        models: the folder of all runs.
        name: the readable part of the directory's name.
        inputs: from `inputs.collect`.
        fresh: take a directory beside the finished ones: `...-2`, `...-3`.
    """
    digits = inputs_id(inputs)
    run_id = f"{re.sub(r'[^A-Za-z0-9_=.,+-]', '_', name)}-{digits}"
    if not (models / run_id).exists():  # the same inputs under another readable name?
        run_id = min((path.name for path in models.glob(f"*-{digits}")), default=run_id)
    run = Run(models / run_id, inputs)
    number = 2
    while fresh and run.finished:
        run = Run(models / f"{run_id}-{number}", inputs)
        number += 1
    return run


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Write metrics as JSON; floats are written so that they are read back exactly."""
    write_atomically(path, f"{json.dumps(metrics, indent=2)}\n".encode())
