"""The checks for a GPU, and the doctor's trainings on one, are rehearsed on the CPU, where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .project import LIBRARY, module  # LIBRARY lets programs find the library

gpu = module("samebits.doctor.gpu")


@pytest.mark.slow
def test_the_checks_of_a_gpu_hold_in_their_rehearsal(tmp_path: Path) -> None:
    found = tmp_path / "gpu.json"
    words = [sys.executable, str(LIBRARY / "tests/gpu/check.py"), "--device", "cpu", "--json", str(found)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["name"]: each["result"] for each in json.loads(found.read_text())["checks"]}
    assert len(results) == 10 and set(results.values()) == {"ok"}


def test_the_doctor_finds_the_same_bits_twice() -> None:
    found = list(gpu.check_gpu("cpu"))
    assert [(each.what, each.mark) for each in found] == [("convolutional network", "ok"), ("transformer", "ok")]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import torch; torch.manual_seed = lambda seed: torch.seed(); {main}", "other bits the second time"),
        ("raise SystemExit('no GPU is left')", "no GPU is left"),
        ("import time; time.sleep(60)", "no end within"),
    ],
)
def test_the_doctor_tells_other_bits_and_failures(program: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing seeds, the process fails, or it hangs."""
    main = "import sys; from samebits.doctor.gpu import main; main(*sys.argv[1:])"
    monkeypatch.setattr(gpu, "PROGRAM", ("-c", program.format(main=main)))
    monkeypatch.setattr(gpu, "SECONDS", 3 if "sleep" in program else gpu.SECONDS)
    found = list(gpu.check_gpu("cpu"))
    assert found and all(each.mark == "problem" and said in each.found and each.mend for each in found)
