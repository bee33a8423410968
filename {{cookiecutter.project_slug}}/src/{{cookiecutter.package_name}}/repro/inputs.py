"""What a run is a function of: settings, code, locked packages and data, each by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .hashing import files_sha256, json_sha256

RUN_PATH = "<run>"

# Settings that cannot change the result: where things are written, what is shown, how data is brought to memory. For
# each of them, tests/test_invariance.py trains with another value and compares the weights.
NOT_INPUTS = (
    "paths",
    "run_name",
    "force",
    "publish",
    "logger",
    "callbacks.resume",
    "callbacks.progress_bar",
    "callbacks.learning_rate",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "data.files",  # what the run reads is data/processed, whose bytes are inputs
    "data.module.directory",
    "data.module.num_workers",
    "data.module.persistent_workers",
    "data.module.prefetch_factor",
)


def portable_config(cfg: DictConfig) -> DictConfig:
    """Resolve the configuration to the same text on every machine: `.` is the project's folder, RUN_PATH the run's."""
    copy = cfg.copy()
    OmegaConf.set_struct(copy, False)
    copy.paths.root = "."
    copy.paths.run = RUN_PATH
    OmegaConf.resolve(copy)
    return copy


def code_sha256(package: Path) -> dict[str, str]:
    """Hash every Python file of the package."""
    return files_sha256(package, package.rglob("*.py"))


def data_sha256(folder: Path) -> dict[str, str]:
    """Hash every file that a run reads."""
    return files_sha256(folder, (path for path in folder.rglob("*") if path.is_file()))


def collect(cfg: DictConfig, root: Path, package: Path, data: Path) -> dict[str, Any]:
    """Collect the inputs of the run that `cfg` describes.

    Args:
        cfg: the composed configuration.
        root: the project's folder, which holds requirements/.
        package: the folder of the Python package.
        data: the folder of the files that the run reads.

    Returns:
        `config`, the settings that count; `code`, `lock` and `data`, the sha256 of each file.
    """
    settings = portable_config(cfg)
    for key in NOT_INPUTS:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(settings, parent) if parent else settings
        if node is not None and name in node:
            del node[name]
    lock = root / "requirements"
    return {
        "config": OmegaConf.to_container(settings),
        "code": code_sha256(package),
        "lock": files_sha256(lock, [lock / "main.txt", *lock.glob("torch-*.txt")]),
        "data": data_sha256(data),
    }


def inputs_id(inputs: dict[str, Any]) -> str:
    """Name the inputs by the first 8 hexadecimal digits of their hash."""
    return json_sha256(inputs)[:8]
