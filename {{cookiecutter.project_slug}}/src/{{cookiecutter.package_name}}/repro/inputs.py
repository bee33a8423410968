"""What a run is a function of: settings, code, locked packages and data, each by content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .hashing import file_sha256, files_sha256, json_sha256
from .ranks import shards
from .redact import redact
from .remembered import HASHES, remembered

RUN_PATH = "<run>"
HASHED = ("config", "code", "lock", "data")
EXPECTED = "EXPECTED_INPUTS"  # environment variable: the fingerprint of what a sweep has asked for

# Code of the package that looks at results, or from them chooses what to train next. No training imports it, so that a
# figure may be changed and all runs stay what they are; should one do so, the files are recorded as code from outside.
VIEWS = ("report.py", "reporting", "search.py", "searching")

# Settings that cannot change the result: where things are written, what is shown, how data is brought to memory. For
# each of them, tests/test_invariance.py trains with another value and compares the weights.
NOT_INPUTS = (
    "paths",
    "run_name",
    "cluster",
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
    "trainer.devices",  # how many processes: what counts is the number of shards
    "trainer.num_nodes",
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
    return OmegaConf.create(_portable(cfg))


def _portable(cfg: DictConfig) -> dict[str, Any]:
    copy = cfg.copy()
    OmegaConf.set_struct(copy, False)
    copy.paths.root = "."
    copy.paths.run = RUN_PATH
    return dict(redact(OmegaConf.to_container(copy, resolve=True)))


def settings_that_count(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the configuration, leave out NOT_INPUTS, and say how many shards there are."""
    return of_resolved(_portable(cfg))


def of_resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """Do the same with a configuration that is resolved: plain values, changed in place."""
    settings["determinism"]["shards"] = shards(settings)  # where it is not given, one for each process
    for key in NOT_INPUTS:
        *parents, name = key.split(".")
        node: Any = settings
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(name, None)
    return settings


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


def data_sha256(folder: Path, hash_file: Callable[[Path], str] = file_sha256) -> dict[str, str]:
    """Hash every file that a run reads."""
    return files_sha256(folder, (path for path in folder.rglob("*") if path.is_file()), hash_file)


def collect(cfg: DictConfig, root: Path, package: Path, data: Path) -> dict[str, Any]:
    """Collect the inputs of the run that `cfg` describes.

    Args:
        cfg: the composed configuration.
        root: the project's folder, which holds requirements/.
        package: the folder of the Python package.
        data: the folder of the files that the run reads.

    Returns:
        `config`, the settings that count, and the `files`.
    """
    return {"config": settings_that_count(cfg), **files(root, package, data)}


def files(root: Path, package: Path, data: Path) -> dict[str, dict[str, str]]:
    """Collect the inputs that are files, and so the same for all runs that begin now.

    Data that has not changed since it was hashed last is not read again.

    Args:
        root: the project's folder, which holds requirements/.
        package: the folder of the Python package.
        data: the folder of the files that the run reads.

    Returns:
        `code`, `lock` and `data`, the sha256 of each file.
    """
    with remembered(root / HASHES) as hash_file:
        return {"code": code_sha256(package), "lock": lock_sha256(root), "data": data_sha256(data, hash_file)}


def inputs_id(inputs: dict[str, Any]) -> str:
    """Name the inputs by the first 8 hexadecimal digits of the hash of those that are HASHED."""
    return json_sha256({key: inputs[key] for key in HASHED if key in inputs})[:8]


def fingerprint(inputs: dict[str, Any]) -> str:
    """Write the hash of each of the inputs in one line, for another process to compare with what it finds."""
    return " ".join(f"{key}={json_sha256(inputs[key])[:16]}" for key in HASHED if key in inputs)


def require_expected(inputs: dict[str, Any]) -> None:
    """Refuse to train something else than a sweep has asked for: between the two, a job may wait for days.

    Raises:
        UserError: says what has changed.
    """
    expected = os.environ.get(EXPECTED, "")
    changed = [now.partition("=")[0] for now in fingerprint(inputs).split() if now not in expected.split()]
    if expected and changed:
        names = {"config": "the settings", "code": "the code", "lock": "the locked packages", "data": "the data"}
        what = " and ".join(names[key] for key in changed)
        raise UserError(f"{what} changed after this run was asked for: give the sweep's command once more.")
