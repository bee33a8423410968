"""What holds for this task alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import samebits
from omegaconf import DictConfig

from .conftest import module


def test_predict_gives_what_the_run_has_given(cfg: DictConfig, trained: Path, tmp_path: Path) -> None:
    features = np.load(Path(cfg.paths.processed) / "test_features.npy")
    np.savetxt(tmp_path / "patients.csv", features, delimiter=",")
    found = [each["progression"] for each in module("predict").predict(tmp_path / "patients.csv", trained)]
    assert found == pytest.approx([float(row["predicted"]) for row in samebits.read_run(trained).predictions], abs=1e-3)
