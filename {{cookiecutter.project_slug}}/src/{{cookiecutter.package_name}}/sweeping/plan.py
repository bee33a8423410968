"""What a sweep is going to train: the inputs of each run, and where it will be found, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from ..config import PACKAGE, ROOT, check, get
from ..data.prepared import require_prepared
from ..errors import UserError
from ..repro.inputs import files, fingerprint, inputs_id, settings_that_count
from ..repro.run import find_run, names_by_inputs
from .combinations import Combination
from .composing import composed_all
from .training import Training, file_name, require_container


@dataclass(frozen=True)
class Plan:
    """One run of a sweep.

    Attributes:
        label: what tells it from the others.
        words: its settings.
        cfg: all settings, with those of the cluster.
        id: of its inputs.
        expected: the hashes of its inputs, which the training compares with what it finds.
        directory: of the run.
        finished: whether there is nothing to train any more.
    """

    label: str
    words: list[str]
    cfg: DictConfig
    id: str
    expected: str
    directory: Path
    finished: bool

    def training(self, logs: Path) -> Training:
        """Make it a command, whose files are in the folder `logs`.

        Raises:
            UserError: its container is missing.
        """
        # A job of SLURM is followed by every sweep that asks for its run, whatever that calls it
        of_slurm = get(self.cfg, "cluster.name") == "slurm"
        name = file_name(self.directory.name.partition(f"-{self.id}")[0] if of_slurm else self.label, self.id)
        elsewhere = [(ROOT / self.cfg.paths[key]).resolve() for key in ("processed", "models")]
        return Training(
            name,
            self.words,
            logs / f"{name}.log",
            expected=self.expected,
            directory=self.directory,
            container=None if self.finished else require_container(get(self.cfg, "cluster.container")),
            folders=[folder for folder in elsewhere if not folder.is_relative_to(ROOT)],
            gpus=bool(get(self.cfg, "cluster.gpus")),
        )


def plan(combinations: Sequence[Combination], of_cluster: Sequence[str]) -> list[Plan]:
    """Find the inputs and the directory of each run.

    Args:
        combinations: the runs.
        of_cluster: settings of the cluster, which no training is told.

    Raises:
        UserError: a setting is wrong, or data are missing.
    """
    settings = composed_all([[*each.words, *of_cluster] for each in combinations])
    for cfg in settings:  # all of them, before data are read
        check(cfg)
        require_prepared(cfg)
    read_files, list_names = cache(files), cache(names_by_inputs)  # once, not for each run
    planned = []
    for each, cfg in zip(combinations, settings, strict=True):
        inputs = {"config": settings_that_count(cfg), **read_files(ROOT, PACKAGE, Path(cfg.paths.processed))}
        run = find_run(Path(cfg.paths.models), cfg.run_name, inputs, ROOT, cfg.force, list_names)
        expected = fingerprint(inputs)
        planned.append(
            Plan(each.label, each.words, cfg, inputs_id(inputs), expected, ROOT / run.directory, run.finished)
        )
    return planned


def require_one_cluster(words: Sequence[str]) -> None:
    """Refuse several values for a setting of the cluster.

    Raises:
        UserError: names it.
    """
    for word in words:
        value = word.partition("=")[2]
        if "," in value and value[0] not in "[{\"'":
            raise UserError(f"{word} names several values: a sweep takes place at one place, so give one of them.")
