"""The configuration: what it must satisfy, how it is composed without a command line, and the objects made of it."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, Node, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from . import distributed
from .adoption import complete, load_program, own_words, register_groups
from .errors import UserError
from .project import project
from .secrets import secret_settings

HYDRA = "${hydra:"  # begins what is looked up in Hydra's own settings
Rule = tuple[str, Callable[[Any], bool], str]


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


# "hours:minutes:seconds" or "days-hours:minutes:seconds": without the quotes, YAML would make 1:00:00 the number 3600
TIME = r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)"

OF_ANY_PROJECT = ("seed", "trainer.", "determinism", "callbacks.resume.", "force")  # keys whose meaning is the same

# A key that the configuration does not have (another data set's, another model's) is checked only if it is REQUIRED.
GROUPS = {"paths", "data", "data.module", "model", "trainer", "determinism"}
REQUIRED = {*GROUPS, "seed", "run_name", "determinism.enabled", "determinism.portable"}
RULES: list[Rule] = [
    *((group, lambda v: isinstance(v, dict), "a group of settings") for group in sorted(GROUPS)),
    ("seed", lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    ("run_name", lambda v: v is not None and _line(str(v)), "a name"),
    ("trainer.max_epochs", lambda v: _whole(v, 1), "a whole number of at least 1"),
    (
        "trainer.devices",
        lambda v: _whole(v, 1) or (isinstance(v, list) and v != []),
        "a number of processes, or a list of GPUs",
    ),
    ("trainer.num_nodes", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("trainer.max_time", lambda v: False, "null, because what the clock decides cannot be repeated; use max_epochs"),
    ("trainer.strategy", lambda v: v == "auto", "auto: trainer.devices says how many processes there are"),
    ("trainer.benchmark", lambda v: v is False, "false: it would choose by the speed of the moment"),
    ("trainer.val_check_interval", _real, "a number of batches or a fraction of an epoch, not a time of the clock"),
    ("data.module.batch_size", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("data.module.eval_batch_size", lambda v: v is None or _whole(v, 1), "a whole number of at least 1"),
    ("data.module.num_workers", lambda v: _whole(v, 0), "a whole number of at least 0"),
    ("data.module.prefetch_factor", lambda v: v is None or _whole(v, 1), "a whole number of at least 1"),
    ("data.module.shift", lambda v: _whole(v, 0), "a whole number of at least 0"),
    ("data.split.val", lambda v: _real(v) and 0 < v < 1, "a fraction between 0 and 1"),
    ("data.split.test", lambda v: _real(v) and 0 < v < 1, "a fraction between 0 and 1"),
    ("data.split.seed", lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    ("data.folds.count", lambda v: _whole(v, 2), "a whole number of at least 2"),
    ("data.folds.fold", lambda v: _whole(v, 0), "a whole number of at least 0"),
    ("data.folds.by", lambda v: v in ("stratified", "group", "time", "plain"), "stratified, group, time or plain"),
    ("data.folds.val", lambda v: _real(v) and 0 < v < 1, "a fraction between 0 and 1"),
    ("data.folds.seed", lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    ("model.optimizer.lr", lambda v: _real(v) and v > 0, "a number above 0"),
    ("model.network.dropout", lambda v: _real(v) and 0 <= v < 1, "a number from 0 to below 1"),
    ("determinism.enabled", lambda v: isinstance(v, bool), "true or false"),
    ("determinism.portable", lambda v: isinstance(v, bool), "true or false"),
    ("determinism.shards", lambda v: v is None or _whole(v, 1), "a whole number of at least 1"),
    ("determinism.threads", lambda v: v is None or _whole(v, 1), "a whole number of at least 1"),
    ("callbacks.resume.every_n_steps", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("callbacks.resume.every_minutes", lambda v: _real(v) and v > 0, "a number above 0"),
    ("callbacks.resume.grace_seconds", lambda v: _real(v) and v >= 0, "a number of at least 0"),
    ("force", lambda v: isinstance(v, bool), "true or false"),
    ("tags", lambda v: isinstance(v, list) and all(_line(str(tag)) for tag in v), "words in brackets, [a,b]"),
    ("cluster", lambda v: isinstance(v, dict), "a group of settings"),
    ("cluster.name", lambda v: v in ("local", "slurm", "ray"), "local, slurm or ray"),
    *((f"cluster.{key}", _line, "a name, or null") for key in ("partition", "account", "qos", "container")),
    ("cluster.time", _text(TIME), 'a time in quotes, "12:00:00" or "2-00:00:00" (two days)'),
    ("cluster.warning", lambda v: _whole(v, 1), "a whole number of seconds, of at least 1"),
    ("cluster.memory", _text(r"[1-9]\d*[MGT]B?"), "a size as 8GB, or null"),
    ("cluster.gpus", lambda v: _whole(v, 0), "a whole number of at least 0"),
    *((f"cluster.{key}", lambda v: _whole(v, 1), "a whole number of at least 1") for key in ("cpus", "nodes")),
    ("cluster.tasks_per_node", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("cluster.setup", lambda v: isinstance(v, list) and all(map(_line, v)), 'a list of lines, ["module load cuda"]'),
    ("cluster.more", lambda v: isinstance(v, dict), "options of sbatch by their names, {constraint: a100}"),
    ("cluster.address", _text(r"auto|[\w.-]+:\d+"), "auto, host:port, or null"),
    ("cluster.retries", lambda v: _whole(v, 0), "a whole number of at least 0"),
]


def is_saved() -> bool:
    """Whether this command was given a run's own config.yaml, and composes nothing from configs/."""
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.initialized() and HydraConfig.get().job.config_name == "config" != project().config


def check(cfg: DictConfig, saved: bool = False) -> None:
    """Refuse values that no run can work with, before anything is read, imported or written.

    Args:
        cfg: the settings.
        saved: they are those of a run; whatever names they have, configs/ had them once.

    Raises:
        UserError: names the key, its value and what would be accepted.
    """
    adopted = project().adopted
    known = set(map(str, cfg)) if adopted or saved else known_settings()
    for name in map(str, cfg):
        if name == "search":
            raise UserError(
                "search=... chooses what `make search` varies, and means nothing to one training: leave it out."
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(
                f"there is no setting {name!r}{hint}: declare a new one in configs/train.yaml;"
                " a file in configs/experiment/ starts with the line `# @package _global_`."
            )
    for key in () if saved else secret_settings(OmegaConf.to_container(cfg)):
        raise UserError(
            f"{key} holds a password or a key, and settings are recorded for others to read: in configs/, make it"
            " ${oc.env:MY_TOKEN}, and give the variable MY_TOKEN to the command that trains."
        )
    for key, accepts, wanted in RULES:
        if adopted and not key.startswith(OF_ANY_PROJECT):
            continue
        value = get(cfg, key)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=False)
        if (value is not None or key in REQUIRED) and not accepts(value):
            mend = "leave it out" if wanted.startswith("null") else f"give it as {key}=<value>, or in configs/"
            raise UserError(f"{key} is {value!r}, but must be {wanted}: {mend}.")
    if cfg.determinism.enabled and get(cfg, "determinism.threads") is None:
        raise UserError("determinism.threads is null, but the number of threads matters: give one, or determinism=off.")
    if not adopted and get(cfg, "trainer.deterministic") is not cfg.determinism.enabled:
        raise UserError("trainer.deterministic follows determinism.enabled: leave it as it is, or say determinism=off.")
    check_shards(cfg)
    check_folds(cfg)
    accelerators = ("cpu", "auto", None) if adopted else ("cpu",)  # `equip` looks at what was chosen
    if get(cfg, "determinism.portable") and get(cfg, "trainer.accelerator") not in accelerators:
        raise UserError("determinism=portable pins what a CPU does: on a GPU, say determinism=gpu.")


def check_shards(cfg: DictConfig) -> None:
    """Refuse numbers of processes and shards that do not go together.

    Raises:
        UserError: names both.
    """
    shards, processes = distributed.number_of_shards(cfg), distributed.wanted_processes(cfg)
    if shards < processes:
        raise UserError(
            f"determinism.shards is {shards}, but trainer.devices and trainer.num_nodes make {processes} processes, and"
            " each of them needs a shard: ask for fewer processes or more shards."
        )
    if shards == 1:
        return
    batch_size = get(cfg, "data.module.batch_size")
    if batch_size is not None and batch_size < shards:
        raise UserError(f"data.module.batch_size is {batch_size}, too few samples for {shards} shards: raise it.")
    if get(cfg, "trainer.precision") in ("16-mixed", 16, "16"):
        raise UserError("trainer.precision=16-mixed rescales as it goes, which shards cannot do: use bf16-mixed.")
    if get(cfg, "trainer.sync_batchnorm"):
        raise UserError("trainer.sync_batchnorm adds up in an order that depends on the processes: leave it out.")


def check_folds(cfg: DictConfig) -> None:
    """Refuse a fold that there is not, or that the data module is not told of.

    Raises:
        UserError: names the setting.
    """
    count, fold = get(cfg, "data.folds.count"), get(cfg, "data.folds.fold")
    if count is fold is None:
        return
    if count is None or fold is None or fold >= count:
        wanted = f"0 to {count - 1}" if count else "null, as data.folds.count is"
        raise UserError(
            f"data.folds.fold is {fold}, but must be {wanted}: make sweep FOLDS={count or 5} trains a run for each."
        )
    if get(cfg, "data.module.folds") is None:
        raise UserError(
            "data.folds asks for a fold, and data.module is not told of it: in configs/data/, write"
            " `folds: ${data.folds}` under `module:`, and let its data sets come from samebits.fold_dataset."
        )


@cache
def known_settings() -> set[str]:
    """List the names that a configuration may have at its top: those of configs/train.yaml, and its groups."""
    train = OmegaConf.load(project().configs / "train.yaml")
    assert isinstance(train, DictConfig)
    groups = {str(name) for entry in train.defaults if isinstance(entry, DictConfig) for name in entry if entry[name]}
    return {"tags", *map(str, train)} - {"defaults"} | groups - {"hydra"}


def get(cfg: DictConfig, key: str) -> Any:
    """Read a dotted key; None where it is missing.

    Raises:
        UserError: the value refers to a key that does not exist.
    """
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read from the configuration: {str(error).splitlines()[0]}.") from error


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration as the command line would: for notebooks and tests.

    Paths come out absolute, so that it works from any folder.
    """
    from hydra import initialize_config_dir

    if project().adopted:
        load_program()
        register_groups()
    with initialize_config_dir(config_dir=str(project().configs), version_base="1.3"):
        return compose_as_training(overrides)


def compose_as_training(overrides: Sequence[str]) -> DictConfig:
    """Compose where Hydra is initialized; each `${hydra:...}` is replaced by what it is in a training's own command."""
    from hydra import compose as hydra_compose
    from hydra.core.hydra_config import HydraConfig

    here = project()
    root, key = str(here.root), f"{here.paths}.root"
    words = own_words(standard_words(overrides))
    if here.adopted and not any(word.lstrip("+").startswith(f"{key}=") for word in words):
        words = own_words([f"{key}={quote(root)}", *words])
    cfg = hydra_compose(here.config, overrides=words, return_hydra_config=True)
    with open_dict(cfg):
        hydra = cfg.pop("hydra")
    hydra.job.name = here.train.rpartition(".")[2]
    hydra.runtime.cwd, hydra.runtime.output_dir = root, os.path.normpath(f"{root}/{hydra.run.dir}")
    if here.adopted:
        return complete(cfg, hydra)
    if not any(word.startswith(f"{key}=") for word in words):
        cfg.paths.root = root
    current: Any = HydraConfig.instance()
    current.cfg, before = OmegaConf.create({"hydra": hydra}), current.cfg
    try:
        _replace_hydra(cfg)
    finally:
        current.cfg = before
    return cfg


def _replace_hydra(node: DictConfig | ListConfig) -> None:
    """Replace interpolations that ask Hydra; what only a started job can answer stays, and fails where it is read."""
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig) and isinstance(child._value(), dict | list):
            _replace_hydra(child)
        elif isinstance(child, Node) and HYDRA in str(child._value()):
            with suppress(OmegaConfBaseException):
                node[key] = node[key]


def standard_words(overrides: Sequence[str]) -> list[str]:
    """Let `+tags=[...]`, as people write it, set the tags whether or not configs/train.yaml declares them."""
    return [f"+{word}" if word.startswith("+tags=") else word for word in overrides]


def quote(text: str) -> str:
    """Write `text` as one value of Hydra's command-line grammar, whatever characters it holds."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


EXTRAS = ("tensorboard", "mlflow", "wandb")  # of pyproject.toml


def instantiate(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """Make the object that `cfg.<key>` describes by `_target_` and its arguments.

    Raises:
        UserError: the settings do not fit the target, or an optional package is missing.
    """
    node = get(cfg, key)
    if "_target_" not in (node or {}):
        raise UserError(f"the settings under {key} have no _target_, the class to make: add it in configs/.")
    from hydra import utils  # here, because most commands make no object
    from hydra.errors import InstantiationException

    check_partials(node, key)
    try:
        return utils.instantiate(node, **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        name = key.rsplit(".", 1)[-1]
        if isinstance(cause, ModuleNotFoundError) and name in EXTRAS:
            raise UserError(f"{key} needs packages that are not installed: run `make setup EXTRAS={name}`.") from error
        where = next((line[10:] for line in str(error).splitlines() if line.startswith("full_key: ")), key)
        reason = " ".join(str(cause).split()).rstrip(".")
        raise UserError(
            f"the settings under {where} do not work ({reason}): mend them in configs/ or on the command line;"
            " with HYDRA_FULL_ERROR=1 before the command, Python's traceback is shown."
        ) from error


def check_partials(node: Any, key: str) -> None:
    """Refuse arguments that a `_partial_` target does not take; called much later, it would end in a traceback.

    Raises:
        UserError: names the argument.
    """
    if not isinstance(node, DictConfig):
        return
    if node.get("_partial_"):
        from hydra import utils

        arguments = [str(name) for name in node if not str(name).startswith("_")]
        try:
            inspect.signature(utils.get_method(node._target_)).bind_partial(**dict.fromkeys(arguments))
        except (ImportError, ValueError):
            return  # a name that leads nowhere, of which instantiate tells more, or a target that tells nothing
        except TypeError as error:
            raise UserError(
                f"the settings under {key} do not work ({error}): mend them, or remove one by ~{key}.<name>."
            ) from error
    for name in map(str, node):
        check_partials(None if OmegaConf.is_missing(node, name) else node[name], f"{key}.{name}")


def instantiate_all(cfg: DictConfig, key: str) -> list[Any]:
    """Make the object of each entry of a group such as `callbacks` or `logger`; entries set to null are left out."""
    group = get(cfg, key) or {}
    return [instantiate(cfg, f"{key}.{name}") for name, entry in group.items() if entry is not None]
