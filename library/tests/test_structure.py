"""The seams hold, and each check can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import samebits

from .conftest import Compose
from .project import ROOT
from .structure import LIBRARY, circle, foreign, graph, not_of_a_training, report, upward

LOADED = """
import sys
from dummy.train import train
import samebits
train(samebits.compose({words!r}))
print(*(name for name in sys.modules if name.startswith("samebits")), sep="\\n")
"""


def test_files_and_lines_are_within_their_bounds_and_imports_run_downwards() -> None:
    assert report() == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LIBRARY, tmp_path / "samebits"))


def test_the_checks_can_fail(copy: Path) -> None:
    def add(name: str, line: str) -> None:
        path = copy / name
        path.write_text(f"{path.read_text()}\n\ndef late() -> None:\n    {line}\n")

    assert not circle(graph(copy)) and not upward(graph(copy)) and not foreign(copy)
    add("engine/files.py", "from .inputs import collect")
    assert circle(graph(copy))
    add("engine/files.py", "from ..verify import verdict")
    add("share.py", "from .cli import main")
    assert any(each.startswith("engine.files imports verify") for each in upward(graph(copy)))
    assert any(each.startswith("share imports cli") for each in upward(graph(copy)))
    add("engine/weights.py", "import dummy.models")
    assert foreign(copy) == ["engine/weights.py imports dummy.models"]
    (copy / "report/long.py").write_text("x = 1\n" * 401)
    assert "report/long.py has 401 lines" in report(copy)
    for number in range(80):
        (copy / f"more{number}.py").write_text("x = 1\n" * 200)
    assert {each.split()[-1] for each in report(copy)[-2:]} == {"files", "lines"}


def test_a_training_loads_the_engine_alone(settings: Compose, workspace: Path) -> None:
    words = [f'paths.root="{workspace}"', "debug=fast", "snapshot=false", "seed=77"]
    done = subprocess.run([sys.executable, "-c", LOADED.format(words=words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stdout.splitlines() if line.startswith("samebits")]
    assert "samebits.engine.trainer" in loaded and not_of_a_training(loaded) == []
    assert not_of_a_training([*loaded, "samebits.verify.provenance_diff"]) == ["samebits.verify.provenance_diff"]


def test_the_public_interface_is_small_documented_and_complete() -> None:
    assert len(samebits.__all__) <= 25 and set(samebits.PUBLIC) == set(samebits.__all__)
    for name in samebits.__all__:
        assert getattr(samebits, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = samebits.nothing
    assert len((LIBRARY / "__init__.py").read_text().splitlines()) <= 80
