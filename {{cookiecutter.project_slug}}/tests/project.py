"""The package under test, found by its folder, so that its name stands nowhere in the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
NAME = next(ROOT.glob("src/*/train.py")).parent.name


def module(name: str) -> ModuleType:
    """Import a module of the package, `data.fetch` for example."""
    return import_module(f"{NAME}.{name}")


def command(name: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python -m <package>.<name>` as a user would."""
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, "-m", f"{NAME}.{name}", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


UserError = module("errors").UserError
compose = module("config").compose
