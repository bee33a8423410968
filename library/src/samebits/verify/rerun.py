"""A training of a recorded run, done again in a process of its own: by which settings, library and folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..engine.config import quote
from ..engine.determinism import changed
from ..engine.errors import UserError
from ..engine.inputs import RUN_PATH
from ..engine.project import project
from ..engine.record import PROBE, RECORD, Record
from ..engine.secrets import keep_references
from .comparison import Result, recorded_result

LAST_LINES = 12  # of a training that failed
OBSERVER = Path(__file__).resolve().parents[1] / "engine" / "observer.py"


@dataclass(frozen=True)
class Orders:
    """Orders that must not matter, and with which a re-run is trained."""

    seed: int = 1  # PYTHONHASHSEED, which decides the order of a set of texts
    backwards: bool = True  # whether folders are listed in the opposite order


class RerunFailed(Exception):
    """The training ended with an error; the text holds its last lines."""


def rerun(
    overrides: Sequence[str],
    folder: Path,
    tree: Path,
    package: str,
    python: str = sys.executable,
    pinned: DictConfig | None = None,
    orders: Orders | None = None,
    variables: Mapping[str, str] | None = None,
    notes: Path | None = None,
    lines: Mapping[str, Sequence[int]] | None = None,
) -> Result:
    """Train in a process of its own, printing the lines that tell how far it is, and read the result.

    The code in `tree`, a project's folder, is trained by `python`, into the empty `folder`; a recorded tree brings its
    own library. What the code asks for, and which `lines` of its files run, is written to `notes`, if asked for.

    Raises:
        RerunFailed: it ended with an error.
        UserError: the recorded library is not in the tree.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "PYTHONHOME")}
    environment |= variables or {}
    library = [] if tree == project().root else recorded_library(tree)
    here = replace(project(), root=tree, name=package)
    paths = [str(here.source), *library, *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if pinned is not None and here.adopted:  # its program may import torch before anything else
        everything = environment | dict(changed(pinned, environment))
        environment = {name: value for name, value in everything.items() if value is not None}
    orders = orders or Orders()
    environment["PYTHONHASHSEED"] = str(orders.seed)
    options = {"root": str(tree), "source": str(here.source), "backwards": orders.backwards, "lines": lines or {}}
    observed = json.dumps(options | {"notes": str(notes) if notes else None})
    command = [python, str(OBSERVER), observed, here.train, *overrides, f"{here.paths}.models={quote(str(folder))}"]
    printed: list[str] = []
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                printed.append(line.rstrip())
                if re.match(r"epoch \d", line):
                    print(f"\n  {line.rstrip()}", end="")
        except BaseException:  # whoever stops us, stops it
            process.kill()
            raise
    if process.returncode:
        raise RerunFailed("\n".join(printed[-LAST_LINES:]))
    (directory,) = (path.parent for path in folder.glob(f"*/{RECORD}"))
    record = json.loads((directory / RECORD).read_text())
    if (directory / PROBE).exists():
        seen = json.loads((directory / PROBE).read_text())
        record |= {"environment": seen["environment"], "inputs": record["inputs"] | {"outside": seen["outside"]}}
    return recorded_result(directory, record)


def recorded_library(tree: Path) -> list[str]:
    """Unpack the wheel of the library that a recorded tree has locked; return where, or nothing if it has no lock."""
    lock, target = tree / "requirements/samebits.txt", tree / ".samebits"
    locked = re.search(r"vendor/samebits-\S+\.whl", lock.read_text(encoding="utf-8")) if lock.exists() else None
    if locked is None:
        return []
    if not (tree / locked[0]).exists():
        raise UserError(f"the recorded code has no {locked[0]}, which it was trained with: leave out CODE= and FRESH=.")
    if not target.exists():
        with zipfile.ZipFile(tree / locked[0]) as wheel:
            wheel.extractall(target)
    return [str(target)]


def recorded_settings(record: Record, saved: DictConfig, root: Path) -> DictConfig:
    """Take each setting that counts from the record, and what does not count (paths, workers, ...) from config.yaml.

    Args:
        record: the run's.
        saved: its config.yaml, whose values are those of the record, with paths that begin at `root`.
        root: of the project whose data is read.
    """

    def merge(recorded: Any, kept: Any, key: str = "") -> Any:
        if isinstance(recorded, dict):
            others = kept if isinstance(kept, dict) else {}
            return others | {name: merge(each, others.get(name), f"{key}.{name}") for name, each in recorded.items()}
        if isinstance(recorded, list):
            return [merge(value, None, key) for value in recorded]
        if isinstance(recorded, str):
            text = f"{root}/{recorded[2:]}" if recorded.startswith("./") else recorded
            if keep_references(text, key) == text:  # else it refers to a secret
                # it is resolved: what looks like a reference is none
                text = re.sub(r"(\\*)\$\{(?!oc\.(?:env|decode):)", r"\1\1\\${", text)
            return text.replace(RUN_PATH, f"${{{project().paths}.run}}")
        return recorded

    kept: Any = OmegaConf.to_container(saved, resolve=False)
    shards = kept["determinism"].get("shards")
    merged = merge(record["inputs"]["config"], kept)
    merged["determinism"]["shards"] = shards  # null where each process makes one: the record holds their number
    return OmegaConf.create(merged)
