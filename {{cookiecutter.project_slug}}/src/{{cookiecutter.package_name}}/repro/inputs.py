"""What a run is a function of: settings, code, locked packages and data, each by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .hashing import files_sha256, json_sha256
from .redact import redact

RUN_PATH = "<run>"
HASHED = ("config", "code", "lock", "data")

# Code of the package that looks at results, or from them chooses what to train next. No training imports it, so that a
# figure may be changed and all runs stay what they are; should one do so, the files are recorded as code from outside.
VIEWS = ("report.py", "reporting", "search.py", "searching")

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
    "callbacks.trace",
    "callbacks.predictions",
    "callbacks.probe",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "data.card",
    "data.files",  # what the run reads is data/processed, whose bytes are inputs
    "data.module.directory",
    "data.module.num_workers",
    "data.module.persistent_workers",
    "data.module.prefetch_factor",
    "snapshot",
)


def portable_config(cfg: DictConfig) -> DictConfig:
    """Resolve the configuration to the same text on every machine: `.` is the project's folder, RUN_PATH the run's.

    Passwords in addresses are left out.
    """
    copy = cfg.copy()
    OmegaConf.set_struct(copy, False)
    copy.paths.root = "."
    copy.paths.run = RUN_PATH
    OmegaConf.resolve(copy)
    return OmegaConf.create(redact(OmegaConf.to_container(copy)))


def settings_that_count(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the configuration and leave out NOT_INPUTS."""
    settings = portable_config(cfg)
    for key in NOT_INPUTS:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(settings, parent) if parent else settings
        if node is not None and name in node:
            del node[name]
    return dict(OmegaConf.to_container(settings))  # type: ignore[arg-type]


def lock_sha256(root: Path) -> dict[str, str]:
    """Hash the locked packages that every installation has."""
    lock = root / "requirements"
    return files_sha256(lock, [lock / "main.txt", *lock.glob("torch-*.txt")])


def is_view(path: Path, package: Path) -> bool:
    """Whether a file of the package is among the VIEWS."""
    return path.is_relative_to(package) and path.relative_to(package).parts[0] in VIEWS


def code_sha256(package: Path) -> dict[str, str]:
    """Hash every Python file of the package, but for the VIEWS."""
    return files_sha256(package, (path for path in package.rglob("*.py") if not is_view(path, package)))


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
    return {
        "config": settings_that_count(cfg),
        "code": code_sha256(package),
        "lock": lock_sha256(root),
        "data": data_sha256(data),
    }


def inputs_id(inputs: dict[str, Any]) -> str:
    """Name the inputs by the first 8 hexadecimal digits of the hash of those that are HASHED."""
    return json_sha256({key: inputs[key] for key in HASHED if key in inputs})[:8]
