"""Where an environment is not what the locks say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .project import module

locks = module("samebits.engine.locks")
HASH = "    --hash=sha256:" + "0" * 64
LOCKS = {
    "main": ("numpy==2.4.6", "Zope.Interface==7.0", "tzdata==2026.6 ; sys_platform == 'plan9'"),
    "dev": ("mypy==1.20", "rich==15.0.0"),
    "torch-cpu": ("torch==2.13.0+cpu ; sys_platform != 'plan9'", "torch==2.13.0 ; sys_platform == 'plan9'"),
    "torch-cuda": ("torch==2.13.0", "nvidia-cublas==13"),
    "build": ("setuptools==84.2.1",),
}
AS_LOCKED = {"numpy": "2.4.6", "zope-interface": "7", "torch": "2.13.0+cpu", "mine": "0.1.0", "pip": "26.0"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    for name, pins in LOCKS.items():
        text = "# a comment\n" + "".join(f"{pin} \\\n{HASH} \\\n{HASH}\n" for pin in pins)
        (tmp_path / f"requirements/{name}.txt").write_text(text)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Mine"\n')
    return tmp_path


def unlocked(root: Path, packages: dict[str, Any], loaded: tuple[str, ...] = ()) -> dict[str, str]:
    present = {name: version for name, version in {**AS_LOCKED, **packages}.items() if version}
    environment = {"packages": present, "loaded": dict.fromkeys(loaded, "5 files")}
    return dict(locks.unlocked(root, root / ".venv", environment))


@pytest.mark.parametrize(
    ("packages", "loaded", "wanted"),
    [
        ({}, (), {}),
        ({}, ("numpy", "mine", "pip", "not-installed"), {}),
        ({"numpy": "2.4.5"}, (), {"numpy": "2.4.5, locked: 2.4.6"}),
        ({"numpy": None}, (), {"numpy": "not installed, locked: 2.4.6"}),
        ({"zope-interface": None, "Zope_Interface": "7.0.0"}, ("Zope_Interface",), {}),
        ({"mypy": "1.19"}, (), {}),  # which trainings do not load
        ({"mypy": "1.19"}, ("mypy",), {"mypy": "1.19, locked: 1.20"}),
        ({"rich": "15.0"}, ("rich",), {}),
        ({"conda": "26.1"}, (), {}),
        ({"pandas": "3.1"}, ("pandas",), {"pandas": "3.1, in no lock"}),
        ({"torch": "2.13.0", "nvidia-cublas": "13.0"}, (), {}),  # the other build, which has a lock as well
        ({"torch": "2.12.0"}, (), {"torch": "2.12, locked: 2.13", "nvidia-cublas": "not installed, locked: 13"}),
    ],
)
def test_differences_of_what_trainings_need_and_load(
    root: Path, packages: dict[str, Any], loaded: tuple[str, ...], wanted: dict[str, str]
) -> None:
    found = unlocked(root, packages, loaded)
    assert found == wanted


def test_what_make_setup_was_told_says_which_lock_counts(root: Path) -> None:
    (root / ".venv").mkdir()
    (root / ".venv/.choices").write_text("accelerator=cuda\nextras=\n")
    for name in ("dev", "gone"):
        (root / f".venv/.with-{name}").touch()
    assert locks.chosen_locks(root, root / ".venv", "2.13.0+cpu") == ["main", "torch-cuda", "dev"]
    assert unlocked(root, {})["torch"] == "2.13+cpu, locked: 2.13"


def test_without_locks_nothing_is_said(root: Path) -> None:
    (root / "requirements/main.txt").unlink()
    assert locks.chosen_locks(root, root / ".venv", "2.13.0") == []
    assert unlocked(root, {"numpy": "1.0"}) == {}
