"""The runs that a sweep will train: settings with several values become runs, each found before anything is started."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..engine.code_closure import targets
from ..engine.command_line import explain, is_of_cluster
from ..engine.config import HYDRA, check, compose_as_training, get, quote, standard_words
from ..engine.errors import PROGRESS_SECONDS, UserError
from ..engine.inputs import (
    EXPECTED,
    code_sha256,
    data_folder,
    fingerprint,
    inputs_id,
    named_files,
    require_prepared,
    settings_that_count,
    shared_inputs,
)
from ..engine.project import project
from ..engine.record import RunDirectory, find_run, names_by_inputs

# Start a command that ignores signals until it handles them itself: one that came earlier would kill it
IGNORE_SIGNALS = ("sh", "-c", 'trap "" INT TERM USR1 USR2; exec "$@"', "sh")
IGNORE_CTRL_C = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


# --- settings with several values


def seeds(text: str) -> str:
    """Turn `0..4`, `1,5,7` or `0..4,10` into the setting that makes a run for each seed, else raise a UserError."""
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"SEEDS={text} is not a list of seeds: write SEEDS=0..4, or SEEDS=1,5,7.")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return f"seed={','.join(map(str, dict.fromkeys(found)))}"


def folds(text: str) -> list[str]:
    """Turn `5` into the settings that make a run for each fold, else raise a UserError."""
    if not re.fullmatch("[1-9][0-9]{0,3}", text) or text == "1":
        raise UserError(f"FOLDS={text} is no number of folds: write FOLDS=5, or another number of at least 2.")
    return [f"data.folds.count={text}", f"data.folds.fold={','.join(map(str, range(int(text))))}"]


@contextmanager
def _hydra() -> Iterator[tuple[Any, Callable[[str], Any], str]]:
    """Give Hydra's config loader, its parser of one override, and the project's folder as an override."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(config_dir=str(project().configs), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(loader)
            root = f"paths.root={quote(str(project().root))}"
            yield loader, cache(lambda override: parser.parse_overrides([override])[0]), root
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


class Combination(NamedTuple):
    """The overrides of one run, each with one value, and a label of those that tell it from the others."""

    overrides: list[str]
    label: str


def combine(overrides: Sequence[str]) -> list[Combination]:
    """List the runs that the overrides ask for, in Hydra's order: the last setting varies fastest.

    Settings that a chosen config varies by itself (`hydra.sweeper.params`) are included. What is no setting is a
    UserError.
    """
    from hydra import compose

    with _hydra() as (_, parse, root):

        def choices(override: str) -> list[str]:
            parsed = parse(override)
            if not parsed.is_sweep_override():
                return [override]
            if not parsed.is_discrete_sweep():
                raise UserError(f"{override} is a range without steps, for a search: list its values, or use range().")
            return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]

        axes = [choices(override) for override in standard_words(overrides)]
        names = [axis[0].partition("=")[0].lstrip("+~") for axis in axes]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{twice} is given twice: leave one of the two out.")
        first = [root, *(axis[0] for axis in axes)]
        params = compose("train", overrides=first, return_hydra_config=True).hydra.sweeper.get("params") or {}
        axes += [choices(f"{key}={value}") for key, value in params.items() if key not in names]
    varied = [len(axis) > 1 for axis in axes]
    return [
        Combination(list(chosen), " ".join(itertools.compress(chosen, varied)) or " ".join(chosen) or "main")
        for chosen in itertools.product(*axes)
    ]


def compose_runs(commands: Sequence[Sequence[str]]) -> list[DictConfig]:
    """Compose the settings of many runs, as `config.compose` does, but read files once for each choice of them.

    Overrides that choose a file (`model=mlp`) decide what is composed; all others change single values of that, in
    their order, which is how Hydra itself does it. What is no setting is a UserError.
    """
    from hydra import compose

    with _hydra() as (loader, parse, root):
        # of all folders that are searched, those of configs/train.yaml's hydra.searchpath too
        _, repository = loader._parse_overrides_and_create_caching_repo("train", [])
        is_group = cache(repository.group_exists)
        compose_choices = cache(lambda choices: compose("train", overrides=list(choices)))
        asks_hydra = cache(lambda choices: HYDRA in OmegaConf.to_yaml(compose_choices(choices)))

        def compose_one(overrides: Sequence[str]) -> DictConfig:
            parsed = [parse(override) for override in (root, *overrides)]
            if several := next((entry.input_line for entry in parsed if entry.is_sweep_override()), None):
                mend = "all runs of a sweep take place at one place, so give one of them"
                mend = mend if is_of_cluster(several) else "for one run each, make sweep"
                raise UserError(f"{several} names several values: {mend}.")
            values = [entry for entry in parsed if not (entry.is_hydra_override() or is_group(entry.key_or_group))]
            choices = tuple(entry.input_line for entry in parsed if entry not in values)
            if any(HYDRA in str(entry.value()) for entry in values) or asks_hydra(choices):
                return compose_as_training(overrides)
            cfg: DictConfig = compose_choices(choices).copy()
            loader._apply_overrides_to_config(values, cfg)
            return cfg

        return [compose_one(overrides) for overrides in commands]


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """Compose the settings of one run; a UserError where an override is not a setting."""
    return compose_runs([overrides])[0]


# --- runs and their commands


@dataclass(frozen=True)
class TrainingCommand:
    """The command of one training, which another process executes, perhaps on another computer."""

    name: str  # of its files in .cache/sweep/
    overrides: list[str]
    log: Path  # what it prints
    expected: str = ""  # the hashes of its inputs; empty where they are not known
    directory: Path | None = None  # of the run; None where it is not known
    container: str | None = None  # a .sif file or a Docker image
    folders: list[Path] = field(default_factory=list)  # outside of the project's that the container must see
    gpus: bool = False  # whether the container may use them
    root: Path = field(default_factory=lambda: project().root)  # a worker of Ray may have been started elsewhere
    package: str = field(default_factory=lambda: project().name)
    python: str = sys.executable

    @property
    def node_file(self) -> Path:
        """The file in which the node writes what became of the training."""
        return self.log.with_suffix(".node.json")

    def arguments(self, prefix: tuple[str, ...] = IGNORE_CTRL_C) -> list[str]:
        """List the arguments of the command line; `prefix` is IGNORE_CTRL_C or IGNORE_SIGNALS."""
        train = ["-m", f"{self.package}.train", *self.overrides]
        if self.container is None:
            return [*prefix, self.python, *train]
        folders = list(map(str, [self.root, *self.folders]))
        values = {"PYTHONPATH": str(self.root / "src"), **self.variables}
        settings = [part for name, value in values.items() for part in ("--env", f"{name}={value}")]
        if self.container.endswith(".sif"):
            start = ["apptainer", "exec", "--pwd", str(self.root), *(["--nv"] if self.gpus else [])]
            start += [part for folder in folders for part in ("--bind", folder)]
        else:
            start = ["docker", "run", "--rm", "--init", "--name", self.job_name, "--workdir", str(self.root)]
            start += ["--user", f"{os.getuid()}:{os.getgid()}", *(["--gpus", "all"] if self.gpus else [])]
            start += [part for folder in folders for part in ("--volume", f"{folder}:{folder}")]
        return [*prefix, *start, *settings, self.container, *prefix, "python", *train]

    @property
    def job_name(self) -> str:
        """The name of its job in SLURM's queue and of its Docker container: that of its inputs."""
        return f"{self.package}-{self.name.rpartition('-')[2]}"

    def clear(self) -> None:
        """Empty the log, and remove what an earlier training of this name wrote."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for former in [*self.log.parent.glob(f"{self.name}.*log"), self.node_file]:
            former.unlink(missing_ok=True)
        self.log.touch()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that tell the training how to behave."""
        expected = {EXPECTED: self.expected} if self.expected else {}
        return {PROGRESS_SECONDS: "1", **expected, "PYTHONUNBUFFERED": "1"}

    def start(self, prefix: tuple[str, ...], output: int | IO[str]) -> subprocess.Popen[str]:
        """Start it; what it prints goes to `output`, a file or subprocess.PIPE."""
        # the variables by which SLURM describes a job of one process are left out, since Lightning would act on them
        single = os.environ.get("SLURM_NTASKS", "1") == "1"
        kept = {name: value for name, value in os.environ.items() if not (single and name.startswith("SLURM_"))}
        kept.pop(EXPECTED, None)
        return subprocess.Popen(
            self.arguments(prefix),
            cwd=self.root,
            env={**kept, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )


def file_name(label: str, digits: str) -> str:
    """Name the files of a run: readable, and unique by its digits."""
    return f"{re.sub(r'[^A-Za-z0-9_=.,+-]+', '_', label)[:100]}-{digits}"


def require_container(container: str | None) -> str | None:
    """Return where the container is: a file's absolute path, or an image's name; a UserError where no such file is."""
    if container is None or not container.endswith(".sif"):
        return container
    path = (project().root / container).resolve()
    if path.exists():
        return str(path)
    raise UserError(f"cluster.container={container} is not there: apptainer build {container} apptainer.def makes it.")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, before it is trained."""

    combination: Combination
    cfg: DictConfig  # all settings, with those of the cluster
    run: RunDirectory  # with its inputs
    finished: bool  # it has been trained already

    def command(self, logs: Path) -> TrainingCommand:
        """Make its command, whose files are in the folder `logs`; a UserError where its container is missing."""
        root, digits, label = project().root, inputs_id(self.run.inputs), self.combination.label
        if get(self.cfg, "cluster.name") == "slurm":  # every sweep that asks for the run follows its job, by this name
            label = self.run.id.partition(f"-{digits}")[0]
        name = file_name(label, digits)
        folders = [each.resolve() for each in (data_folder(self.cfg), root / self.cfg.paths.models)]
        return TrainingCommand(
            name,
            self.combination.overrides,
            logs / f"{name}.log",
            expected=fingerprint(self.run.inputs),
            directory=root / self.run.directory,
            container=None if self.finished else require_container(get(self.cfg, "cluster.container")),
            folders=[folder for folder in folders if not folder.is_relative_to(root)],
            gpus=bool(get(self.cfg, "cluster.gpus")),
        )


def plan_runs(combinations: Sequence[Combination], cluster: Sequence[str]) -> list[PlannedRun]:
    """Find the inputs and the directory of each run.

    Args:
        combinations: the runs.
        cluster: overrides of the group `cluster`, which no training is given.

    Raises:
        UserError: a setting is wrong, or data are missing.
    """
    settings = compose_runs([[*combination.overrides, *cluster] for combination in combinations])
    for cfg in settings:  # all of them, before data are read
        check(cfg)
        require_prepared(cfg)
    read_files, list_names = cache(shared_inputs), cache(names_by_inputs)  # once, not for each run
    code: dict[frozenset[str], dict[str, str]] = {}  # likewise, for each choice of targets
    planned = []
    for combination, cfg in zip(combinations, settings, strict=True):
        config = settings_that_count(cfg)
        chosen = frozenset(targets(config))
        if chosen not in code:
            code[chosen] = code_sha256(config)
        data = data_folder(cfg)
        inputs = {"config": config, "code": code[chosen], **read_files(data), **named_files(config, data)}
        run = find_run(Path(cfg.paths.models), cfg.run_name, inputs, project().root, cfg.force, list_names)
        planned.append(PlannedRun(combination, cfg, run, run.finished))
    return planned
