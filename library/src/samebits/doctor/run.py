"""How this machine differs from the record of one run: its code, packages, data and environment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..engine.determinism import after_torch, supported
from ..engine.environment import describe_environment
from ..engine.errors import UserError
from ..engine.files import file_sha256
from ..engine.loaded_code import Loaded, Package, installed, summary
from ..engine.project import Project
from ..engine.record import Record
from ..engine.run_loader import read_config
from ..verify import provenance_diff
from ..verify.environment_diff import INCIDENTAL, environment_differences
from ..verify.provenance_diff import contradictions
from ..verify.rerun import recorded_settings
from . import ATTENTION, OK, PROBLEM, Check
from .packages import few, folders

SECTION = "this run"
OF_LIGHTNING = "CUBLAS_WORKSPACE_CONFIG"  # it sets this variable where a training is deterministic
SEEN_IN_A_TRAINING = ("shadows", "startup", "bytecode", "preloaded", "objects", "stdlib", "asked", "listed")
UNLIKELY = ("system.", "libraries", "python")  # rows of the environment that rarely change results


def check_run(here: Project, run: Path, record: Record) -> Iterator[Check]:
    """Check what a re-run of the record would be made of."""
    again = f"make reproduce RUN={run}"
    if found := contradictions(run, record):
        yield Check(SECTION, "record", f"it contradicts itself: {few(found)}", PROBLEM, f"git checkout -- {run}")
        return
    yield Check(SECTION, "record", f"{record['run']}, which nothing in it contradicts")
    yield from _code(run, record, again)
    yield from _data(here, run, record)
    yield from _environment(record, again)


def _code(run: Path, record: Record, again: str) -> Iterator[Check]:
    rows = provenance_diff.code_differences(record)
    locks = [name for name, *_ in rows if name.startswith("lock ")]
    if locks:
        found = f"requirements/ has others than the run: {few(name.removeprefix('lock ') for name in locks)}"
        yield Check(SECTION, "locks", found, PROBLEM, f"{again} FRESH=1")
    others = [name for name, *_ in rows if name not in locks]
    mend = f"{again} CODE=recorded" if others else ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = provenance_diff.export_code(record, run, Path(folder) / "code", "ask whoever trained it for it")
    except UserError as error:
        yield Check(SECTION, "code", str(error), PROBLEM)
        return
    if others:
        yield Check(SECTION, "code", f"it has changed since: {few(others)}; Git has the run's", ATTENTION, mend)
    else:
        yield Check(
            SECTION, "code", f"the same here{'' if kept else ', and Git does not have it'}", OK if kept else ATTENTION
        )


def _data(here: Project, run: Path, record: Record) -> Iterator[Check]:
    cfg = recorded_settings(record, read_config(run, here.root), here.root)
    rows = [*provenance_diff.named_file_differences(record, cfg), *provenance_diff.data_differences(record, cfg)]
    if rows:
        found = f"not those of the run: {few(name.removeprefix('data ') for name, *_ in rows)}"
        yield Check(SECTION, "data", found, PROBLEM, "" if here.adopted else "make data, or make pull")
    else:
        yield Check(SECTION, "data", f"{len(record['inputs']['data'])} files, as the run read them")


def _environment(record: Record, again: str) -> Iterator[Check]:
    recorded = record["environment"]
    settings = OmegaConf.create(record["inputs"]["config"]["determinism"])
    if supported(settings):
        after_torch(settings)
    rows = environment_differences(recorded, _here(recorded))
    found = False
    for name, mine, theirs in rows:
        if name in INCIDENTAL:
            continue
        found = True
        yield Check(SECTION, name, f"recorded {mine}, here {theirs}", *_weight(name, bool(settings.portable), again))
    if not found:
        yield Check(SECTION, "environment", "packages, flags, threads, processor and GPU are as recorded")


def _weight(name: str, portable: bool, again: str) -> tuple[str, str]:
    """Say how much a row of the environment weighs, and what mends it."""
    if name.startswith(UNLIKELY) or (portable and name == "processor.model"):
        return ATTENTION, ""
    return PROBLEM, f"{again} FRESH=1" if name.startswith(("packages", "loaded", "patched")) else ""


def _here(recorded: dict[str, Any]) -> dict[str, Any]:
    """Describe this process as if it were a training's; what only a training shows is taken to be as recorded."""
    import torch

    if recorded.get("gpu") and torch.cuda.is_available():
        torch.cuda.init()
    described = describe_environment(Loaded()) | {key: recorded[key] for key in SEEN_IN_A_TRAINING if key in recorded}
    if OF_LIGHTNING in recorded["variables"]:
        described["variables"].setdefault(OF_LIGHTNING, recorded["variables"][OF_LIGHTNING])
    packages = {name: Package.listed(each) for name, (each, *_) in installed().items() if name in recorded["loaded"]}
    loaded = {name: summary(files) for name, files in packages.items() if files}
    loose = {name: each for name, each in recorded["loaded"].items() if name not in loaded}
    described["loaded"] = loaded | loose
    described["patched"] = {
        name: file_sha256(path)
        for name in recorded["patched"]
        for path in (Path(folder) / name for folder in folders())
        if path.is_file()
    }
    return described
