"""What holds for this task alone."""

from __future__ import annotations

from pathlib import Path

import samebits
import torch

from .conftest import module


def test_no_character_sees_those_after_it(trained: Path) -> None:
    model = samebits.load(trained).model()
    text = torch.arange(20)[None]
    assert torch.allclose(model(text)[:, :10], model(text[:, :10]), atol=1e-5)


def test_a_text_is_continued(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Evaluates the ")
    assert module("predict").predict(tmp_path / "prompt.txt", trained, length=5).startswith("Evaluates the ")
