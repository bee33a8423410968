"""Re-runs differ in what must not matter, and the lines of the user's code that make them differ are named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .project import NAME, ROOT, module

engine_project, records = module("samebits.engine.project"), module("samebits.engine.record")
FEW = ("debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0", "snapshot=false")
DATA, MODEL = f"src/{NAME}/data/datamodule.py", f"src/{NAME}/models/classifier.py"
LOSS = "        loss: torch.Tensor = self.loss(self(images), labels)\n"
READ = "        return to_input(self.images[indices]), torch.from_numpy(self.labels[indices])\n"
INIT = "        self.shift = shift\n\n    def __len__"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, workspace: Path) -> Iterator[Path]:
    """Give a copy of the project, with its data and a folder of files, in which code is planted."""
    project = tmp_path_factory.mktemp("planted") / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns("__pycache__", ".cache"))
    shutil.copytree(workspace / "data", project / "data", dirs_exist_ok=True)
    for name in ("three", "one", "two"):
        (project / "data/external/deep").mkdir(parents=True, exist_ok=True)
        (project / f"data/external/{name}.txt").write_text(str(len(name)))
    yield project


def call(project: Path, *words: str, seed: str | None = None, status: int | None = 0) -> str:
    paths = os.pathsep.join([os.environ["PYTHONPATH"].split(os.pathsep)[0], str(project / "src")])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"} | {"PYTHONPATH": paths}
    environment |= {"PYTHONHASHSEED": seed} if seed else {}
    done = subprocess.run([sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True)
    assert status in (None, done.returncode), done.stdout + done.stderr
    return done.stdout


def plant(project: Path, name: str, old: str, new: str) -> int:
    """Put code into a file as it is in the original; return the line of its mark, `#!`."""
    content = (ROOT / name).read_text()
    assert content.count(old) == 1
    text = content.replace(old, new)
    (project / name).write_text(text)
    return next((number for number, line in enumerate(text.splitlines(), 1) if "#!" in line), 0)


def judge(project: Path, *more: str, seed: str | None = None, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train, and give the verdict on it."""
    shutil.rmtree(project / "models", ignore_errors=True)
    call(project, f"{NAME}.train", *FEW, *words, seed=seed)
    return dict(json.loads(call(project, "samebits", "reproduce", "--json", "--no-file", *more, status=None)))
