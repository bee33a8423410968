"""What a project's train.py is made of: `@samebits.main`, and the `Run` that it hands to the function."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from .engine import access_log, determinism, distributed, git_snapshot, lightning, observer
from .engine.adoption import require_program
from .engine.code_closure import targets
from .engine.command_line import one_sentence, own_overrides, restart_pinned, run_command, start_processes
from .engine.config import check, is_saved
from .engine.errors import UserError
from .engine.files import file_sha256, json_sha256
from .engine.inputs import (
    collect,
    data_folder,
    data_origin,
    hashes,
    inputs_id,
    require_expected,
    require_prepared,
)
from .engine.printing import warn
from .engine.project import project, require_own_program, use_project
from .engine.record import HISTORY, RunDirectory, find_run, now, outputs

if TYPE_CHECKING:
    import pytorch_lightning as pl


class Run:
    """One training: its settings, its directory, and what leads from the settings to results.

    Attributes:
        cfg: the composed configuration.
        id: the name of the run's directory, made of its readable name and the hash of its inputs.
        directory: the run's directory, `models/<id>`.
    """

    def __init__(self, cfg: DictConfig, files: RunDirectory) -> None:
        self.cfg, self.files = cfg, files
        self.id, self.directory = files.id, files.directory

    def instantiate(self, key: str, **arguments: Any) -> Any:
        """Make the object that the settings under `key` describe by `_target_` and its arguments.

        The random numbers that it draws follow from the seed alone, not from what was made before it.

        Args:
            key: dotted, as `data.module`.
            arguments: more of the target's, beside those in the settings.

        Raises:
            UserError: the settings do not fit the target, or an optional package is missing.
        """
        from .engine import randomness
        from .engine.config import instantiate

        randomness.seed_all(self.cfg.seed, randomness.Purpose.MODEL)
        return instantiate(self.cfg, key, **arguments)

    def trainer(self) -> pl.Trainer:
        """Make Lightning's Trainer, with the callbacks and loggers that the settings name."""
        from .engine.trainer import build_trainer

        return build_trainer(self.cfg, self.directory)

    def fit(self, trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
        """Train, from the last checkpoint where there is one, and put the weights that are kept into the model.

        Raises:
            UserError: nothing could be measured afterwards, the disk is full, or an operation cannot be deterministic.
        """
        from .engine.trainer import equip, fit, keep_best, require_measurable, validates

        equip(trainer, self.cfg, self.directory, validates(trainer, model, datamodule))
        require_measurable(trainer, model, datamodule)
        new = distributed.is_first() and not self.files.record
        if distributed.is_first():
            with access_log.paused():
                begin_record(self.files, self.cfg)
        try:
            fit(trainer, model, datamodule)
        except Exception:
            begun = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            if new and not begun:  # refused before its first batch, it is no run that could go on
                self.files.discard()
                git_snapshot.drop(project().root, self.id)
            raise
        access_log.flush()  # of every process; the first one reads it after the test, in which all take part
        keep_best(trainer, model)

    def test(
        self, trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule
    ) -> dict[str, float]:
        """Measure the weights that are kept on validation and test data; write weights, metrics and record.

        Returns:
            The metrics, exactly as they are written.

        Raises:
            UserError: a metric is not a finite number.
        """
        from .engine import weights
        from .engine.trace_writer import TraceWriter
        from .engine.trainer import callbacks_of, measure

        metrics = measure(trainer, model, datamodule)
        if distributed.is_first():
            digests = weights.save(model, self.directory / "model.safetensors", self.id)
            for trace in callbacks_of(trainer, TraceWriter):
                trace.write_measured(digests[0], inputs_id(self.files.inputs))
            with access_log.paused():
                finish_record(self.files, trainer, metrics, digests)
        return metrics


Train = Callable[[Run], None]


def main(
    config_name: str = "train", config_path: str | None = None, version_base: str | None = "1.3"
) -> Callable[[Train], Callable[..., dict[str, float]]]:
    """Make a function that trains a command, whose settings Hydra composes from `configs/<config_name>.yaml`.

    The command finds the run that belongs to its inputs, and calls the function unless that run has finished:

        @samebits.main(config_name="train")
        def train(run: samebits.Run) -> None: ...

        if __name__ == "__main__":
            train()

    It may stand in the place of `@hydra.main`, whose arguments it takes by their names. In notebooks and tests,
    `train(cfg)` does the same with settings from `samebits.compose`. It returns the metrics of the weights that were
    kept.
    """

    def decorate(function: Train) -> Callable[..., dict[str, float]]:
        @wraps(function)
        def command(cfg: DictConfig | None = None) -> dict[str, float]:
            determinism.round_to_nearest()
            path = Path(inspect.getfile(function)).resolve()
            use_project(path.parent)
            if cfg is None:
                with one_sentence():
                    require_program(path, config_path, config_name, version_base)
                run_command(lambda composed: train(function, composed), config_name)
                return {}
            return train(function, cfg)

        return command

    return decorate


def stage(config_name: str = "train") -> Callable[[Callable[[DictConfig], Any]], Callable[..., Any]]:
    """Make a function of the settings a command, a stage of the pipeline as `prepare` is.

    Called with settings, as in tests, it runs with these.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(cfg: DictConfig | None = None) -> Any:
            determinism.round_to_nearest()
            use_project(Path(inspect.getfile(function)).resolve().parent)

            def checked(composed: DictConfig) -> Any:
                check(composed)
                return function(composed)

            return run_command(checked, config_name) if cfg is None else checked(cfg)

        return command

    return decorate


def train(function: Train, cfg: DictConfig) -> dict[str, float]:
    """Train, unless a run with the same inputs has finished, and return the metrics of the weights that were kept.

    Raises:
        UserError: a setting, a data file or a package is wrong or missing; nothing has been written then.
    """
    require_own_program()
    check(cfg, is_saved())
    require_prepared(cfg)
    inputs = collect(cfg)
    require_expected(inputs)
    inputs["origin"] = data_origin(cfg)
    run = find_run(Path(cfg[project().paths].models), cfg.run_name, inputs, project().root, fresh=cfg.force)
    distributed.require_match(cfg)
    if distributed.wanted_processes(cfg) > distributed.current_rank().world_size and not run.finished:
        start_processes(distributed.wanted_processes(cfg))  # each of them comes here again; the first one does the rest
        return run.metrics if run.finished else {}
    with run.lock():
        if run.finished:
            from .verify.provenance_diff import require_unedited  # here, because a new training needs none of it

            require_unedited(run.directory)
            print("These inputs have been trained already; force=true trains once more, beside it.")
            if cfg.get("tags") and list(map(str, cfg.tags)) != run.record["source"].get("tags"):
                print("It keeps the tags with which it was trained, as its record is sealed.")
        else:
            train_anew(function, cfg, run)
    if not distributed.is_first():
        return {}
    if cfg.publish:
        run.publish(Path(cfg[project().paths].root) / cfg.publish)
    show(run, cfg.publish)
    return run.metrics


def train_anew(function: Train, cfg: DictConfig, run: RunDirectory) -> None:
    """Call the project's function, with what must not vary pinned before PyTorch is imported.

    Raises:
        UserError: the function did not measure what it trained.
    """
    if project().adopted:
        restart_pinned(cfg.determinism)
    determinism.require_untouched(cfg.determinism)
    determinism.before_torch(cfg.determinism)
    # torch is imported only here, so that it finds its environment as it must be
    determinism.after_torch(cfg.determinism)
    paths = project().paths
    cfg[paths].run = f"${{{paths}.models}}/{run.id}"
    if project().adopted:
        lightning.choose(targets(OmegaConf.to_container(cfg, resolve=False)))
        from .engine import randomness  # which takes Lightning by the name that is chosen now

        randomness.seed_all(cfg.seed, randomness.Purpose.MODEL)  # for what the program makes without run.instantiate
    here = str(project().root), str(project().source)
    with watched(cfg, run), observer.watch_clock(*here, partial(access_log.note, "clock")):
        function(Run(cfg, run))
    if distributed.is_first() and not run.finished:
        raise UserError(
            f"{function.__name__}() in {inspect.getfile(function)} has returned without results: let it end with"
            " run.fit(trainer, model, datamodule) and run.test(trainer, model, datamodule)."
        )


@contextmanager
def watched(cfg: DictConfig, run: RunDirectory) -> Iterator[None]:
    """Note what the project's function touches."""
    root, names = project().root, project().data
    own = [run.directory.absolute(), run.directory.absolute().parent / ".locks", root / ".git", hashes().parent]
    data = [data_folder(cfg)] if names is None else [root / name for name in names]
    access_log.start(root, own, data, own[0] / access_log.FOLDER)
    try:
        yield
    finally:
        access_log.stop()


def begin_record(run: RunDirectory, cfg: DictConfig) -> None:
    """Write the settings, the inputs and the state of the code."""

    def describe() -> dict[str, object]:
        described = git_snapshot.take_snapshot(project().root, run.id if cfg.snapshot else None, run.directory)
        for name, size in described.get("left_out", {}).items():
            warn(
                f"{name} ({size / 1e6:,.0f} MB) is neither committed nor ignored, and too large to be code, so the"
                " record leaves it out: put it into data/external/, or its name into .gitignore."
            )
        if cfg.snapshot and "remark" in described:
            warn(f"{described['remark']}.")
        tags = {"tags": [str(tag) for tag in cfg.tags]} if cfg.get("tags") else {}
        return {"tree": json_sha256(run.inputs["code"]), **described, "overrides": own_overrides(), **tags}

    run.start(cfg, describe, now())


def finish_record(
    run: RunDirectory, trainer: pl.Trainer, metrics: dict[str, float], digests: tuple[str, dict[str, str]]
) -> None:
    """Add the environment, the cost and the outputs.

    Args:
        run: the run's directory.
        trainer: after it has trained and measured.
        metrics: exact floats.
        digests: of the weights, from `weights.save`.
    """
    from .engine import environment, locks
    from .engine.callbacks import ResourceUsage
    from .engine.trainer import callbacks_of

    described, code, found = environment.depended_on(run.inputs)
    if code:
        package = project().package.relative_to(project().root)
        warn(
            f"the training loaded {few(list(code))}, which its imports do not lead to: the record has the hash, but to"
            f" make changes there part of a run's id, move such code into {package}/, and import it by its name."
        )
    warn_of_touched([name for name in found["outside"] if name not in code], found["touched"])
    others = {} if project().adopted else locks.unlocked(project().root, Path(sys.prefix), described)
    if others:
        names = few([f"{name} {text}" for name, text in others.items()], "; ")
        warn(
            f"the environment is not what the locks in requirements/ say ({names}): the record lists all of it, and"
            " `make clean setup` installs what is locked."
        )
    (usage,), source = callbacks_of(trainer, ResourceUsage), project().source
    observed = {
        "status": "finished",
        "ended": now(),
        **usage.observed(trainer),
        "parameters": sum(each.numel() for each in trainer.lightning_module.parameters()),
        "history": file_sha256(run.directory / HISTORY),
        "touched": found["touched"],
        "unlocked": others,
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "clock": sorted(found["clock"]) + observer.find_dates({name: source / name for name in run.inputs["code"]}),
    }
    run.finish(
        metrics,
        outputs(run.directory, *digests, metrics),
        inputs={"outside": found["outside"] | code},
        environment=described,
        observed=observed,
    )
    usage.path.unlink(missing_ok=True)
    shutil.rmtree(run.directory / access_log.FOLDER, ignore_errors=True)


def few(names: Sequence[str], between: str = ", ") -> str:
    """Join the first three names, and say by dots that there are more."""
    return between.join([*names[:3], *(["..."] if len(names) > 3 else [])])


def warn_of_touched(files: Sequence[str], touched: Mapping[str, Any]) -> None:
    """Say which files and addresses the training asked that are no inputs of it."""
    if files:
        warn(
            f"the training read {few(files)}, which is none of its inputs: the record has the hash; to make changes"
            " there part of a run's id, let a setting name the file, or have it prepared into the data."
        )
    if asked := access_log.unrecorded(touched):
        warn(f"the training asked {', '.join(asked[:3])}: the answers are in no record.")


def show(run: RunDirectory, published: str | None) -> None:
    """Print what came out, and where it is."""
    width = max(13, *map(len, run.metrics)) + 1
    for name, value in run.metrics.items():
        print(f"{name:<{width}}{value:.4f}")
    print(f"{'weights':<{width}}sha256 {run.weights_digest}")
    print(f"{'results':<{width}}{os.path.relpath(run.directory)}" + (f", copied to {published}" if published else ""))
