"""From settings to objects."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from .config import get
from .errors import UserError

EXTRAS = ("tensorboard", "mlflow", "wandb")  # of pyproject.toml


def build(cfg: DictConfig, key: str, **arguments: Any) -> Any:
    """Make the object that `cfg.<key>` describes by `_target_` and its arguments.

    Raises:
        UserError: the settings do not fit the target, or an optional package is missing.
    """
    node = get(cfg, key)
    if "_target_" not in (node or {}):
        raise UserError(f"the settings under {key} have no _target_, the class to make: add it in configs/.")
    try:
        return instantiate(node, **arguments)
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


def build_all(cfg: DictConfig, key: str) -> list[Any]:
    """Make the object of each entry of a group such as `callbacks` or `logger`; entries set to null are left out."""
    group = get(cfg, key) or {}
    return [build(cfg, f"{key}.{name}") for name, entry in group.items() if entry is not None]
