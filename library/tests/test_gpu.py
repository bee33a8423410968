"""The checks for a GPU are rehearsed on the CPU, where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .project import LIBRARY  # which lets programs find the library


@pytest.mark.slow
def test_the_checks_of_a_gpu_hold_in_their_rehearsal(tmp_path: Path) -> None:
    found = tmp_path / "gpu.json"
    words = [sys.executable, str(LIBRARY / "tests/gpu/check.py"), "--device", "cpu", "--json", str(found)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["name"]: each["result"] for each in json.loads(found.read_text())["checks"]}
    assert len(results) == 9 and set(results.values()) == {"ok"}
