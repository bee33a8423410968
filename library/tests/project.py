"""The project that is trained in these tests, and its commands."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module as module
from pathlib import Path

NAME = "dummy"
ROOT = Path(__file__).resolve().parent / "project"
LIBRARY = ROOT.parents[1]
# for this process and those that it starts; the last is for `tests.busy`, code from outside of the project's package
FOLDERS = [str(LIBRARY / "src"), str(ROOT / "src"), str(LIBRARY)]
sys.path[:0] = [folder for folder in FOLDERS if folder not in sys.path]
os.environ["PYTHONPATH"] = os.pathsep.join(FOLDERS)

import samebits  # noqa: E402
from samebits.engine.project import use_project  # noqa: E402

use_project(ROOT)
UserError = samebits.UserError
compose = samebits.compose

# of a training of two steps that is measured on all data
FEW = ("debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0")

__all__ = ["FEW", "NAME", "ROOT", "UserError", "command", "compose", "module"]


def pipeline(*deps: str) -> str:
    """Write dvc.yaml for the project, whose `prepare` depends on its code of the data, and on more files."""
    listed = ", ".join(['"configs/data/${item}.yaml"', '"data/raw/${item}"', f"src/{NAME}/data", *deps])
    return f"""vars: [configs/train.yaml:defaults]
stages:
  fetch:
    foreach: ["${{defaults[1].data}}"]
    do:
      cmd: python -m samebits fetch data=${{item}}
      deps: ["configs/data/${{item}}.yaml"]
      outs: ["data/raw/${{item}}"]
  prepare:
    foreach: ["${{defaults[1].data}}"]
    do:
      cmd: python -m {NAME}.data.prepare data=${{item}}
      deps: [{listed}]
      outs: ["data/processed/${{item}}"]
"""


def command(name: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command of the project, `train` or `predict`, or a verb of the library, as a user would."""
    words = ["-m", f"{NAME}.{name}"] if name in ("train", "predict") else ["-m", "samebits", name]
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, *words, *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )
