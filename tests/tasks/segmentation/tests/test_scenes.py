"""What holds for this task alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import samebits
from omegaconf import DictConfig
from PIL import Image

from .conftest import module


def test_predict_gives_what_the_run_has_given(cfg: DictConfig, trained: Path, tmp_path: Path) -> None:
    images = np.load(Path(cfg.paths.processed) / "test_images.npy")
    np.savetxt(tmp_path / "scenes.csv", images.reshape(len(images), -1), delimiter=",")
    found = [each["ink"] for each in module("predict").predict(tmp_path / "scenes.csv", trained, tmp_path)]
    assert found == pytest.approx([float(row["ink"]) for row in samebits.read_run(trained).predictions], abs=1e-3)
    assert np.asarray(Image.open(tmp_path / "1.png")).mean() / 255 == pytest.approx(found[0])
