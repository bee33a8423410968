"""What stands between a run's settings and Lightning's Trainer."""

from __future__ import annotations

import ctypes
import inspect
import logging
import math
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from . import determinism, distributed
from .callbacks import (
    BestWeights,
    History,
    KeptWeights,
    PortableOptimizer,
    Probe,
    ProgressLines,
    ResourceUsage,
    SameHardware,
)
from .checkpoint import ExactResume, SealedCheckpointIO, histories
from .config import get, instantiate, instantiate_all
from .errors import INTERRUPTED, RESUME_LATER, UserError
from .exact_loaders import ExactLoaders
from .files import no_room
from .folds import RequireFolds
from .inputs import fold_of, portable_config
from .lightning import (
    BatchSizeFinder,
    Checkpoint,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    PassThroughProfiler,
    ProgressBar,
    SingleDeviceStrategy,
    SpikeDetection,
    StochasticWeightAveraging,
    Timer,
    is_overridden,
    pl,
)
from .randomness import Reseed
from .record import COMPUTE, HISTORY
from .sharded_strategy import ProcessGroup, ShardedStrategy, has_lost_a_peer
from .trace_reader import FINAL, TEST
from .trace_writer import TraceWriter

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
ALWAYS, LARGEST = 2**31 - 1, 32 * 2**20  # bytes; glibc takes no larger ones


def keep_freed_memory() -> bool:
    """Keep memory that is freed for the next step to use, and say whether the C library, glibc, knows how.

    By itself it may give large blocks, gradients above all, back to the system and ask for them anew at each step: up
    to 10 % of the time of a network of 10 M weights. Blocks above 32 MiB still come from the system (mallopt(3)).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(TRIM_THRESHOLD, ALWAYS) and mallopt(MMAP_THRESHOLD, LARGEST))


# Lightning's callbacks that no run can be repeated or resumed with, and the way out
REFUSED: dict[type[pl.Callback], str] = {
    BatchSizeFinder: "chooses by what this machine's memory holds: give the size, data.module.batch_size=<number>",
    LearningRateFinder: "chooses a value that no setting holds: give one, model.optimizer.lr=<number>; make search"
    " varies it",
    ModelPruning: "rewrites the parameters while it trains, so a run that was cut off could not go on: prune the"
    " weights afterwards",
    SpikeDetection: "cannot be read back from a checkpoint, so a run that was cut off could not go on: leave it out",
    StochasticWeightAveraging: "exchanges the schedule within an epoch, so a run that was cut off could not go on: take"
    " WeightAveraging or EMAWeightAveraging",
}


def require_repeatable(callback: pl.Callback) -> None:
    """Refuse a callback of Lightning's whose effect cannot be repeated.

    Raises:
        UserError: says why, and what takes its place.
    """
    reason = next((why for kind, why in REFUSED.items() if isinstance(callback, kind)), None)
    if isinstance(callback, Timer) and callback._duration is not None:
        reason = "ends a training by the clock: give trainer.max_epochs or trainer.max_steps"
    if reason:
        raise UserError(f"the callback {type(callback).__name__} {reason}.")


T = TypeVar("T", bound=pl.Callback)
EXPECTED = (0, RESUME_LATER, distributed.PEER_LOST)  # exit statuses of a training that no person has interrupted


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's default does, and makes no new context for each of some 70 hooks a step."""

    context = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]
        """Return the same empty context for everything."""
        return self.context


FIRST = (ExactResume, ResourceUsage, Reseed, ExactLoaders)  # the state is saved before others change it


def necessary(cfg: DictConfig, directory: Path) -> list[pl.Callback]:
    """Make the callbacks that every training has."""
    made: list[pl.Callback] = [ResourceUsage(directory / COMPUTE), Reseed(cfg.seed), ExactLoaders(cfg.seed)]
    if cfg.determinism.enabled:
        made.append(PortableOptimizer() if cfg.determinism.portable else SameHardware())
    return made


def in_order(callbacks: Sequence[pl.Callback]) -> list[pl.Callback]:
    """Put FIRST first, so that the others find the generators set; and last, as Lightning does, what writes weights."""

    def place(each: pl.Callback) -> int:
        last = len(FIRST) + isinstance(each, Checkpoint)
        return next((number for number, kind in enumerate(FIRST) if isinstance(each, kind)), last)

    return sorted(callbacks, key=place)


def build_trainer(cfg: DictConfig, directory: Path) -> pl.Trainer:
    """Make the Trainer of a run's settings and directory, with its callbacks and loggers; these get all settings.

    Where nobody can watch a progress bar, lines take its place.
    """
    silence_lightning()
    wanted = cfg.trainer.get("enable_progress_bar", True)
    bar = wanted and sys.stderr.isatty()
    callbacks = [each for each in instantiate_all(cfg, "callbacks") if bar or not isinstance(each, ProgressBar)]
    for callback in callbacks:
        require_repeatable(callback)
    if wanted and not bar:
        callbacks.append(ProgressLines())
    if fold := fold_of(cfg):
        callbacks.append(RequireFolds(fold[:3]))
    callbacks = in_order([*callbacks, *necessary(cfg, directory)])
    loggers = [History(directory / HISTORY), *instantiate_all(cfg, "logger")]
    plugins: list[Any] = [SealedCheckpointIO()]
    options: dict[str, Any] = {} if cfg.trainer.get("profiler") else {"profiler": NoProfiler()}
    shards = distributed.number_of_shards(cfg)
    if shards > 1:
        options |= {"strategy": ShardedStrategy(cfg.seed, shards), "use_distributed_sampler": False}
    else:
        plugins.append(ProcessGroup())  # in whatever job this runs, Lightning is not to look for other processes
    trainer: pl.Trainer = instantiate(
        cfg,
        "trainer",
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins,
        **options,
        enable_progress_bar=bar,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
    )
    if trainer.fast_dev_run:  # type: ignore[attr-defined] # Lightning has taken them away
        trainer.loggers = loggers[:1]
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(portable_config(cfg)))
    return trainer


def equip(trainer: pl.Trainer, cfg: DictConfig, directory: Path, validated: bool) -> None:
    """Give a Trainer that the program has made what every training needs; one of `build_trainer` has it.

    Args:
        trainer: it keeps its callbacks and loggers.
        cfg: the run's settings.
        directory: the run's.
        validated: whether there is a validation; then the weights that a ModelCheckpoint finds best are kept.

    Raises:
        UserError: it is of a kind whose training cannot be repeated.
    """
    if callbacks_of(trainer, ResourceUsage):
        return
    if not isinstance(trainer, pl.Trainer):
        raise UserError(
            f"the Trainer is not one of {pl.__name__}, whose classes the program also uses: take one of both."
        )
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        raise UserError(
            "the Trainer has several processes, which only one of run.trainer() splits batches for in the same way each"
            " time: say trainer=run.trainer(), or trainer.devices=1."
        )
    if cfg.determinism.portable and trainer.strategy.root_device.type != "cpu":
        raise UserError("determinism=portable pins what a CPU does: on a GPU, say determinism=gpu.")
    if cfg.determinism.enabled:
        determinism.after_torch(cfg.determinism)  # making the Trainer may have changed it
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set elsewhere
    monitors = [each for each in callbacks_of(trainer, ModelCheckpoint) if each.monitor]
    for callback in callbacks:
        require_repeatable(callback)
    for name, kind in {"resume": ExactResume, "trace": TraceWriter, "probe": Probe}.items():
        if not callbacks_of(trainer, kind) and get(cfg, f"callbacks.{name}"):  # the program makes its own alone
            callbacks.append(instantiate(cfg, f"callbacks.{name}"))
    if not callbacks_of(trainer, BestWeights) and monitors and validated and get(cfg, "samebits.keep") != "last":
        callbacks.append(BestWeights(str(monitors[0].monitor), monitors[0].mode))
    callbacks[:] = in_order([*callbacks, *necessary(cfg, directory)])
    trainer.loggers = [*trainer.loggers, History(directory / HISTORY)]
    trainer.strategy.checkpoint_io = SealedCheckpointIO()
    if Path(trainer.default_root_dir) == Path.cwd():  # as it is where the program does not say it
        trainer._default_root_dir = str(directory)  # type: ignore[attr-defined] # set elsewhere


def fit(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
    """Train, from where an earlier start of the same run was cut off, if there was one."""
    keep_freed_memory()
    resume = callbacks_of(trainer, ExactResume)

    def next_start() -> str:
        saved = any(each.previous for each in resume)
        return f"the same command {'goes on from the last checkpoint' if saved else 'starts from the beginning'}"

    try:
        newest = next((each.find() for each in resume), None) if trainer.is_global_zero else None
        if isinstance(trainer.strategy, ShardedStrategy):
            trainer.strategy.setup_environment()  # now, to tell the other processes where to go on
            newest = trainer.strategy.broadcast(newest)
        if newest is None:
            for history in histories(trainer):
                history.start()
        # checkpoints hold plain values alone; Lightning 2.5 asks the checkpoint's reader, which knows it as well
        known = inspect.signature(trainer.fit).parameters
        safely: dict[str, Any] = {"weights_only": True} if "weights_only" in known else {}
        trainer.fit(model, datamodule, ckpt_path=newest, **safely)
    except (OSError, RuntimeError) as error:
        if full := no_room(error, trainer.default_root_dir):
            raise UserError(f"{full}; {next_start()}.") from error
        if isinstance(error, OSError):
            raise
        exit_if_peer_lost(error, next_start())
        raise determinism.explain(error) or error from None
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the one into the other
        if isinstance(stop, SystemExit) and stop.code in EXPECTED:
            raise
        print(f"\nInterrupted: {next_start()}.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def exit_if_peer_lost(error: RuntimeError, next_start: str) -> None:
    """Exit, where an error says that another process of this training has ended."""
    if has_lost_a_peer(error):
        if distributed.current_rank().launcher != "samebits":  # which tells more
            print(f"error: another process of this training has ended ({error}): {next_start}.", file=sys.stderr)
        raise SystemExit(distributed.PEER_LOST) from None


def evaluation_trainer(cfg: DictConfig) -> pl.Trainer:
    """Make a Trainer that only measures, on the CPU, and writes nothing."""
    silence_lightning()
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        plugins=[ProcessGroup()],
        deterministic=cfg.determinism.enabled,
        limit_val_batches=cfg.trainer.get("limit_val_batches"),
        limit_test_batches=cfg.trainer.get("limit_test_batches"),
        callbacks=[Reseed(cfg.seed), ExactLoaders(cfg.seed)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def keep_best(trainer: pl.Trainer, model: pl.LightningModule) -> None:
    """Put the weights that were best into the model; without the callback `best`, the last are kept."""
    for callback in callbacks_of(trainer, BestWeights)[:1]:
        callback.load_into(model)


def callbacks_of(trainer: pl.Trainer, kind: type[T]) -> list[T]:
    """List the trainer's callbacks of a kind."""
    return [each for each in trainer.callbacks if isinstance(each, kind)]  # type: ignore[attr-defined] # set elsewhere


def require_measurable(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
    """Refuse to train what could not be measured afterwards, or not as its settings say.

    Raises:
        UserError: says what is missing.
    """
    name = type(model).__name__
    if not is_overridden("test_step", model):
        raise UserError(
            f"{name} has no test_step(), which measures the weights that are kept: write it beside the others."
        )
    if not any(is_overridden("test_dataloader", each) for each in (datamodule, model)):
        raise UserError(
            f"{type(datamodule).__name__} has no test_dataloader(), whose samples the weights are measured on."
        )
    if trainer.limit_test_batches == 0:
        raise UserError("trainer.limit_test_batches is 0, but the weights that are kept are measured: leave it out.")
    if not model.automatic_optimization and (trainer.gradient_clip_val or trainer.accumulate_grad_batches != 1):
        raise UserError(
            f"{name} optimises by itself (automatic_optimization=False), so it has to clip gradients and to gather them"
            " by itself: leave out trainer.gradient_clip_val and trainer.accumulate_grad_batches."
        )
    if callbacks_of(trainer, BestWeights) and not validates(trainer, model, datamodule):
        raise UserError(
            f"callbacks.best keeps the weights that are best in validation, and there is none: give {name} a"
            " validation_step() and the data a val_dataloader(), or keep the last weights by ~callbacks.best."
        )


def validates(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> bool:
    """Whether there is a validation, by model, data and settings."""
    loaded = any(is_overridden("val_dataloader", each) for each in (datamodule, model))
    return bool(loaded and is_overridden("validation_step", model) and trainer.limit_val_batches)


def measure(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> dict[str, float]:
    """Return the validation and test metrics of the model's weights; refuse those that are not finite."""
    metrics: dict[str, Any] = {}
    kept = KeptWeights(model)
    trainer.callbacks.append(kept)  # type: ignore[attr-defined] # last of all
    try:
        evaluations = {FINAL: trainer.validate, TEST: trainer.test}
        if not validates(trainer, model, datamodule):
            del evaluations[FINAL]
        for kind, evaluate in evaluations.items():
            measured: dict[str, Any] = {}
            for found in evaluate(model, datamodule=datamodule, verbose=False):  # one for each loader
                measured |= found
            metrics |= measured
            for trace in callbacks_of(trainer, TraceWriter):
                trace.keep_measured(kind, measured)
    except (OSError, RuntimeError) as error:
        if full := no_room(error, trainer.default_root_dir):
            raise UserError(f"{full}; the same command goes on from the last checkpoint.") from error
        if isinstance(error, RuntimeError):
            exit_if_peer_lost(error, "the same command goes on from the last checkpoint")
        raise
    finally:
        trainer.callbacks.remove(kept)  # type: ignore[attr-defined]
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(f"the training diverged ({name} is {value}): lower model.optimizer.lr and train again.")
    return {name: float(value) for name, value in metrics.items()}


def silence_lightning() -> None:
    """Silence Lightning's remarks on hardware and on workers, which repeat our own settings."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "lower value for log_every_n_steps",
        "LeafSpec.*deprecated",  # between Lightning 2.6 and PyTorch 2.13
        "srun.* command is available on your system",  # a sweep uses it
        "Checkpoint directory .* exists and is not empty",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
