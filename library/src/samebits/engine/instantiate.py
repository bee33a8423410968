"""From settings to objects."""

from __future__ import annotations

import inspect
from typing import Any

from hydra import utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from .config import get
from .errors import UserError

EXTRAS = ("tensorboard", "mlflow", "wandb")  # of pyproject.toml


def instantiate(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """Make the object that `cfg.<key>` describes by `_target_` and its arguments.

    Raises:
        UserError: the settings do not fit the target, or an optional package is missing.
    """
    node = get(cfg, key)
    if "_target_" not in (node or {}):
        raise UserError(f"the settings under {key} have no _target_, the class to make: add it in configs/.")
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
